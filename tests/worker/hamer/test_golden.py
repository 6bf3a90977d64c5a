"""The official code's numbers, within the bounds of each comparison; metres unless noted."""

from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="HaMeR needs torch (the extra `hamer`)")

from worker.hamer.checkpoint import BRAIN, FULL, HALF, Precision, build_hamer, load_hamer  # noqa: E402
from worker.hamer.config import config_of_yaml  # noqa: E402
from worker.hamer.geometry import (  # noqa: E402
    Crops,
    crop_to_frame,
    crops_of_boxes,
    frame_focal,
    frame_translations,
    project_to_frame,
    sample_crops,
    unmirror,
)
from worker.hamer.modeling.hamer import Hamer, HandOutputs  # noqa: E402
from worker.hamer.sizes import LAYERS  # noqa: E402

WIDTH, HEIGHT = 1280, 720


def largest(ours: object, theirs: np.ndarray) -> float:
    """Returns the largest difference; the shapes must agree."""
    ours = np.asarray(ours)
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max())


@pytest.fixture(scope="module")
def golden_input(golden: SimpleNamespace) -> torch.Tensor:
    """The official crops as the network sees them."""
    return torch.from_numpy(golden.crops["img"])[..., 32:224]


@pytest.fixture(scope="module")
def crops(golden: SimpleNamespace) -> Crops:
    """Our squares of the golden boxes."""
    return crops_of_boxes(golden.boxes, golden.is_right)


@pytest.fixture(scope="module")
def outputs(model: Hamer, golden_input: torch.Tensor) -> HandOutputs:
    """Our outputs, with the mesh, for the official crops."""
    return model(golden_input, mesh=True)


def test_squares_are_the_official_ones(golden: SimpleNamespace, crops: Crops):
    """Centre and side of every hand's crop agree, also beyond the frame's border."""
    assert largest(crops.centers, golden.crops["box_center"]) < 1e-3
    assert largest(crops.sizes, golden.crops["box_size"]) < 1e-3


@pytest.mark.parametrize("hand", range(4), ids=["right", "left", "blurred", "left beyond the border"])
def test_crops_are_within_two_grey_levels(golden: SimpleNamespace, model: Hamer, crops: Crops, hand: int):
    """All pixels of the square agree up to rounding, also in blurred crops and beyond the frame."""
    ours = sample_crops(torch.from_numpy(golden.image), crops, model.mean, model.std, columns=(0, 256))
    levels = (ours[hand] - torch.from_numpy(golden.crops["img"][hand])).abs() * 255 * model.std.view(3, 1, 1)
    assert levels.max() <= 2
    assert levels.mean() <= 0.05


def test_each_hand_of_a_frame_is_cropped_as_if_alone(golden: SimpleNamespace, model: Hamer, crops: Crops):
    """Sampling the hands of a frame together changes nothing."""
    frame = torch.from_numpy(golden.image)
    together = sample_crops(frame, crops, model.mean, model.std)
    for n in range(len(crops)):
        one = Crops(crops.centers[n : n + 1], crops.sizes[n : n + 1], crops.mirrored[n : n + 1])
        alone = sample_crops(frame, one, model.mean, model.std)[0]
        # Coordinates of another region round differently: a value between two grey levels may become either.
        levels = (alone - together[n]).abs() * 255 * model.std.view(3, 1, 1)
        assert levels.max() < 1.01
        assert levels.mean() < 0.05


def test_backbone_features(golden: SimpleNamespace, model: Hamer, golden_input: torch.Tensor):
    """The backbone's features are the official ones, patch by patch."""
    ours = model.backbone(golden_input)[0].T.reshape(64, 16, 12)
    assert largest(ours, golden.outputs["backbone_features_0"]) < 1e-4


def test_head(golden: SimpleNamespace, model: Hamer, golden_input: torch.Tensor, tensors: dict[str, torch.Tensor]):
    """The head adds the same numbers to the mean hand as the official head."""
    pose, betas, camera = model.head(model.backbone(golden_input))
    for ours, mean, theirs in (
        (pose.flatten(1), "init_hand_pose", "pose6d_delta"),
        (betas, "init_betas", "betas_delta"),
        (camera, "init_cam", "cam_delta"),
    ):
        assert largest(ours - tensors[f"mano_head.{mean}"], golden.outputs[theirs]) < 2e-5


def test_network(golden: SimpleNamespace, outputs: HandOutputs):
    """Camera, rotations, shape, joints and mesh agree on the official crops."""
    theirs = golden.outputs
    assert largest(outputs["cameras"], theirs["pred_cam"]) < 1e-5
    assert largest(outputs["rotations"][:, :1], theirs["mano_global_orient"]) < 1e-4
    assert largest(outputs["rotations"][:, 1:], theirs["mano_hand_pose"]) < 1e-4
    assert largest(outputs["betas"], theirs["mano_betas"]) < 1e-4
    assert largest(outputs["keypoints_3d"], theirs["pred_keypoints_3d"]) < 1e-5
    assert largest(outputs["keypoints_2d"], theirs["pred_keypoints_2d"]) < 1e-5
    assert largest(outputs["vertices"], theirs["pred_vertices"]) < 1e-5


def test_joints_do_not_need_the_mesh(model: Hamer, golden_input: torch.Tensor, outputs: HandOutputs):
    """Without the mesh, the 21 joints are the same."""
    short = model(golden_input, mesh=False)
    assert "vertices" not in short
    assert largest(short["keypoints_3d"], outputs["keypoints_3d"].numpy()) < 1e-6


def test_mano_alone(golden: SimpleNamespace, model: Hamer):
    """The official parameters give the official hand."""
    theirs = golden.outputs
    rotations = np.concatenate([theirs["mano_global_orient"], theirs["mano_hand_pose"]], axis=1)
    joints, vertices = model.mano(torch.from_numpy(rotations), torch.from_numpy(theirs["mano_betas"]))
    assert largest(joints, theirs["pred_keypoints_3d"]) < 1e-6
    assert largest(vertices, theirs["pred_vertices"]) < 1e-6


def test_left_hands_and_the_frame(golden: SimpleNamespace, outputs: HandOutputs, crops: Crops):
    """Left hands are un-mirrored, and both projections to the frame give the official pixels."""
    theirs = golden.outputs
    focal = frame_focal(WIDTH, HEIGHT, 5000.0, 256)
    assert focal == theirs["full_scaled_focal_length"]
    camera = outputs["cameras"].numpy().astype(np.float64)
    translations = frame_translations(camera, crops, WIDTH, HEIGHT, focal)
    assert largest(translations, theirs["full_cam_t"]) < 1e-5
    joints = unmirror(outputs["keypoints_3d"].numpy(), crops)
    assert largest(joints, theirs["full_keypoints_3d"]) < 1e-5
    assert largest(unmirror(outputs["vertices"].numpy(), crops), theirs["full_vertices"]) < 1e-5
    pixels = project_to_frame(joints, translations, WIDTH, HEIGHT, focal)
    assert largest(pixels, theirs["full_keypoints_px"]) < 5e-3
    assert largest(crop_to_frame(outputs["keypoints_2d"].numpy(), crops), theirs["crop_keypoints_px"]) < 5e-3


def test_frame_to_hand(golden: SimpleNamespace, model: Hamer, crops: Crops):
    """From picture and boxes, with our own crops, hands are within 3 mm and cameras within 2e-3."""
    ours = model(sample_crops(torch.from_numpy(golden.image), crops, model.mean, model.std), mesh=True)
    assert largest(ours["cameras"], golden.outputs["pred_cam"]) < 2e-3
    assert largest(ours["keypoints_3d"], golden.outputs["pred_keypoints_3d"]) < 3e-3
    assert largest(ours["vertices"], golden.outputs["pred_vertices"]) < 3e-3


@pytest.mark.parametrize(("precision", "bound"), [(HALF, 1e-3), (BRAIN, 6e-3)], ids=["float16", "bfloat16"])
def test_sixteen_bits_cost_little(
    golden: SimpleNamespace, golden_input: torch.Tensor, precision: Precision, bound: float
):
    """With 16-bit weights in the backbone no vertex is off by more than 1 mm (float16) or 6 mm (bfloat16)."""
    model = load_hamer(golden.checkpoint, precision=precision)
    assert model.backbone.blocks[0].fc1.weight.dtype == precision.matrices
    assert model.head.context_kv.weight.dtype == torch.float32
    assert largest(model(golden_input, mesh=True)["vertices"], golden.outputs["pred_vertices"]) < bound


def drop_row_0(t: dict[str, torch.Tensor]) -> None:
    """Drops the row that is added to every patch."""
    t["backbone.pos_embed"][:, 0] = 0


def regroup_qkv(t: dict[str, torch.Tensor]) -> None:
    """Groups the rows by head first."""
    key = "backbone.blocks.0.attn.qkv.weight"
    t[key] = t[key].view(2, 3, 32, 64).transpose(0, 1).reshape(192, 64)


def swap_keys_and_values(t: dict[str, torch.Tensor]) -> None:
    """Swaps keys and values."""
    key = f"{LAYERS}.0.1.fn.to_kv.weight"
    t[key] = t[key].roll(32, 0)


def forget_the_mean(t: dict[str, torch.Tensor]) -> None:
    """Drops the mean pose."""
    t["mano_head.init_hand_pose"].zero_()


def interleave_rotations(t: dict[str, torch.Tensor]) -> None:
    """Interleaves the six numbers as HMR does."""
    for key in ("mano_head.decpose.weight", "mano_head.decpose.bias"):
        t[key] = t[key].view(16, 3, 2, -1).transpose(1, 2).reshape(t[key].shape)


def use_queries_as_values(t: dict[str, torch.Tensor]) -> None:
    """Reads the values from other rows."""
    key = f"{LAYERS}.0.0.fn.to_qkv.weight"
    t[key] = t[key].roll(32, 0)


def shift_the_template(t: dict[str, torch.Tensor]) -> None:
    """Shifts the hand at rest."""
    t["mano.v_template"] += 0.001


@pytest.mark.parametrize(
    "mutate",
    [
        drop_row_0,
        regroup_qkv,
        swap_keys_and_values,
        forget_the_mean,
        interleave_rotations,
        use_queries_as_values,
        shift_the_template,
    ],
)
def test_every_part_of_the_checkpoint_counts(
    mutate, golden: SimpleNamespace, golden_input: torch.Tensor, tensors: dict[str, torch.Tensor], config: dict
):
    """A misread tensor displaces joints by far more than the bounds above, so these tests would notice it."""
    copies = {key: tensor.clone() for key, tensor in tensors.items()}
    mutate(copies)
    model = build_hamer(copies, config_of_yaml(config), precision=FULL)
    assert largest(model(golden_input)["keypoints_3d"], golden.outputs["pred_keypoints_3d"]) > 5e-4
