"""HaMeR as the backend of ``run`` and ``detect``."""

import json
import threading
from concurrent.futures import Future
from contextlib import closing
from types import SimpleNamespace

import cv2
import jsonschema
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="HaMeR needs torch (the extra `hamer`)")

from support.models.synthetic_hands import BACKGROUND, draw_hand  # noqa: E402
from support.waiting import wait_until  # noqa: E402

from worker.backend import BackendError, open_backend  # noqa: E402
from worker.detect import run_detect  # noqa: E402
from worker.frame_counter import count_hands  # noqa: E402
from worker.hamer.detector import HamerDetector, PosedHands  # noqa: E402
from worker.hamer.geometry import crops_of_boxes  # noqa: E402
from worker.hamer.refiner import HamerRefiner  # noqa: E402
from worker.hamer.verdicts import Verdict  # noqa: E402
from worker.hands.detection import BatchingDetector, Hands  # noqa: E402
from worker.hands.device.arena import Arena, InArena  # noqa: E402
from worker.hands.effort import Effort  # noqa: E402
from worker.options import HandsOptions  # noqa: E402
from worker.results import SCHEMA  # noqa: E402


class Boxes:
    """A detector that finds the golden boxes in any picture, in the pixel coordinates of Hands."""

    name = "boxes"
    engine = "fake"

    def __init__(self, golden: SimpleNamespace) -> None:
        count = len(golden.boxes)
        self.hands = Hands(
            boxes=golden.boxes.astype(np.float32) + np.float32(0.5),
            is_right=golden.is_right,
            scores=np.linspace(0.9, 0.6, count, dtype=np.float32),
            keypoints=np.full((count, 21, 2), np.nan, np.float32),
        )

    def detect(self, image: np.ndarray) -> Hands:  # noqa: ARG002
        return self.hands


@pytest.fixture(params=[False, True], ids=["joints", "mesh"])
def detector(request, golden, predictor, joints_predictor, lenient):
    """The golden network behind the golden boxes, all of which it accepts."""
    chosen = predictor if request.param else joints_predictor
    with closing(HamerRefiner(chosen, thresholds=lenient)) as refiner:
        yield HamerDetector(Boxes(golden), refiner)


def test_a_frame_gets_the_official_joints_and_cameras(detector, golden):
    """A frame's result has the official code's numbers and follows the schema."""
    result = count_hands("cam1", 1.0, golden.image, detector)
    written = json.loads(result.to_json())
    jsonschema.validate(written, json.loads(SCHEMA.read_text()))
    assert (written["backend"], written["hand_count"]) == ("hamer", len(golden.boxes))
    outputs = golden.outputs
    mirror = np.where(golden.is_right, 1.0, -1.0)[:, None]
    for hand, joints, camera, translation, sign in zip(
        written["hands"],
        outputs["pred_keypoints_3d"],
        outputs["pred_cam"],
        outputs["full_cam_t"],
        mirror,
        strict=True,
    ):
        expected = joints * [sign[0], 1.0, 1.0]
        assert np.abs(np.array(hand["joints_3d"]) - expected).max() < 3e-3
        assert abs(hand["camera"][0] - camera[0]) < 2e-3
        assert np.allclose(hand["translation"], translation, rtol=0.02, atol=2e-2)
        assert np.isfinite(hand["keypoints"]).all()
        assert ("vertices" in hand) == (detector._refiner.predictor.engine.mesh)


def test_one_picture_at_a_time_for_a_detector_of_one():
    """Although any thread may use HaMeR: a picture that is tried again comes from another thread than the next one."""
    refiner = SimpleNamespace(submit=lambda *_: Future())
    inside, most = [], []

    class Alone:
        name = engine = "fake"

        def detect(self, image: np.ndarray) -> Hands:  # noqa: ARG002
            inside.append(1)
            never.wait(0.1)
            most.append(len(inside))
            inside.pop()
            return Hands.empty()

    never = threading.Event()
    detector = HamerDetector(Alone(), refiner)
    threads = [threading.Thread(target=detector.submit, args=(np.zeros((8, 8, 3), np.uint8),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1]


def test_hands_stay_in_the_detectors_pixels(detector, golden):
    """The boxes are the detector's own, and the joints have the same pixel coordinates."""
    hands = detector.detect(golden.image)
    assert isinstance(hands, PosedHands)
    assert np.array_equal(hands.boxes, detector._detector.hands.boxes)
    assert np.allclose(hands.keypoints, hands.poses.keypoints_2d + 0.5, atol=1e-3)


def test_what_is_dropped_is_as_the_detector_found_it(detector, golden):
    """Of four detections one is off the frame: it alone is dropped, with its own values and the reason."""
    found = detector._detector.hands
    found.boxes[1] = (5000, 5000, 5100, 5100)
    hands = detector.detect(golden.image)
    assert hands.boxes.tolist() == found.boxes[[0, 2, 3]].tolist()
    dropped = hands.dropped()
    assert (dropped.hands.boxes.tolist(), dropped.verdicts) == ([[5000, 5000, 5100, 5100]], [Verdict.BAD_BOX])
    assert dropped.hands.scores.tolist() == [found.scores[1]]
    assert dropped.reasons == [Verdict.BAD_BOX.reason]


def test_contradicted_hands_are_not_counted(golden, joints_predictor):
    """With the real thresholds the random network's hands are dropped, and each verdict is reported."""
    events = []
    refiner = HamerRefiner(joints_predictor, on_event=lambda event, times: events.append((event, times)))
    with closing(refiner):
        hands = HamerDetector(Boxes(golden), refiner).detect(golden.image)
    assert len(hands) < len(golden.boxes)
    assert sum(times for _, times in events) == len(golden.boxes)
    assert dict(events).get("kept", 0) == len(hands)


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """A picture of a synthetic hand."""
    image = np.full((174, 232, 3), BACKGROUND, np.uint8)
    draw_hand(image, (116, 94), 40)
    path = tmp_path_factory.mktemp("photos") / "hand.png"
    cv2.imwrite(str(path), image)
    return str(path)


def test_detect_with_a_checkpoint(photo, golden, tmp_path, capsys):
    """``detect`` runs HaMeR behind the real palm detector, prints its JSON and draws."""
    hands = HandsOptions(backend="hamer", hamer_checkpoint=golden.checkpoint, mesh=True, device="cpu")
    assert run_detect([photo], hands, json_output=True, draw_dir=tmp_path / "out") == 0
    assert list(json.loads(capsys.readouterr().out)) == [photo]
    assert (tmp_path / "out" / "hand.png").is_file()


@pytest.mark.parametrize("json_output", [True, False])
def test_explained_drops(golden, tmp_path, capsys, monkeypatch, json_output):
    """With --explain every detection is either a hand or dropped, with HaMeR's verdict, and the reason in the text."""
    monkeypatch.setattr("worker.hands.detector.PalmLandmarkDetector", lambda *_args, **_options: Boxes(golden))
    picture = str(tmp_path / "picture.png")
    cv2.imwrite(picture, golden.image)
    hands = HandsOptions(backend="hamer", hamer_checkpoint=golden.checkpoint, device="cpu")
    assert run_detect([picture], hands, json_output=json_output, explain=True) == 0
    printed = capsys.readouterr().out
    if not json_output:
        lines = [line for line in printed.splitlines() if "  dropped, " in line]
        assert 0 < len(lines) <= len(golden.boxes)
        verdicts = [Verdict(line.partition("  dropped, ")[2].partition(":")[0]) for line in lines]
        assert all(line.endswith(verdict.reason) for line, verdict in zip(lines, verdicts, strict=True))
        return
    (result,) = json.loads(printed).values()
    jsonschema.validate(result, json.loads(SCHEMA.read_text()))
    dropped = result["dropped"]
    assert len(dropped) + result["hand_count"] == len(golden.boxes)
    assert {each["reason"] for each in dropped} <= set(Verdict) - {"kept"}
    assert dropped[0]["box"] == (golden.boxes[0] + 0.5).astype(float).round(2).tolist()
    assert all(set(each) == {"box", "is_right", "score", "keypoints", "reason"} for each in dropped)


def open_with(golden, **changes):
    options = {"effort": Effort.FAST, "min_score": 0.5, "hamer_checkpoint": golden.checkpoint, "device": "cpu"}
    return open_backend(HandsOptions(**(options | changes)))


def test_auto_opens_hamer_if_a_checkpoint_is_given(golden):
    """Every event of HaMeR is reported at first with 0, so that its series exist."""
    events = []
    opened = open_backend(
        HandsOptions(hamer_checkpoint=golden.checkpoint, device="cpu"),
        lambda event, times: events.append((event, times)),
    )
    opened.close()
    assert opened.name == "hamer"
    assert {times for _, times in events} == {0}
    assert {"kept", "out_of_memory"} < {event for event, _ in events}


def test_a_missing_or_broken_checkpoint_is_an_error_at_the_start(golden, tmp_path):
    """With `auto` too, a configured checkpoint is used."""
    for backend in ("auto", "hamer"):
        with pytest.raises(BackendError, match=r"gone\.ckpt"):
            open_with(golden, backend=backend, hamer_checkpoint=tmp_path / "gone.ckpt")
    broken = tmp_path / "broken.ckpt"
    broken.write_bytes(b"not a checkpoint")
    with pytest.raises(BackendError, match=r"broken\.ckpt"):
        open_with(golden, hamer_checkpoint=broken)
    with pytest.raises(BackendError, match="--hamer-checkpoint"):
        open_with(golden, backend="hamer", hamer_checkpoint=None)


def test_a_device_that_is_not_there_is_an_error(golden):
    """CUDA asked for on a machine without one is said at the start."""
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(BackendError, match="CUDA"):
        open_with(golden, device="cuda")


def test_frames_are_refined_side_by_side(detector, golden):
    """Who submits a picture doesn't wait for HaMeR, and each gets the hands of their own; what fails, fails for one alone."""
    assert isinstance(detector, BatchingDetector)
    futures = [detector.submit(golden.image) for _ in range(3)]
    broken = detector.submit(golden.image[..., :0])
    alone = detector.detect(golden.image)
    for future in futures:
        np.testing.assert_allclose(future.result(60).keypoints, alone.keypoints, atol=1e-2)
    assert broken.exception(60) is not None


class Keeping(Boxes):
    """The same with a copy of each picture on the device."""

    at_once = 4

    def __init__(self, golden: SimpleNamespace, arena: Arena) -> None:
        super().__init__(golden)
        self.arena = arena
        self.error: Exception | None = None

    def submit(self, image: np.ndarray) -> Future:
        return self.submit_keeping(image, None)

    def submit_keeping(self, image: np.ndarray, keep) -> Future:
        found: Future = Future()
        if self.error:
            found.set_exception(self.error)
        else:
            keep(InArena(self.arena, self.arena.place(image)))
            found.set_result(self.hands)
        return found


@pytest.fixture
def arena():
    """Room for two golden pictures and their pyramids."""
    return Arena(torch.device("cpu"), 2_000_000)


@pytest.fixture
def keeping(golden, predictor, lenient, arena):
    """HaMeR behind a detector that keeps its pictures on the device."""
    with closing(HamerRefiner(predictor, thresholds=lenient)) as refiner:
        yield HamerDetector(Keeping(golden, arena), refiner)


def test_crops_of_the_detectors_copy(keeping, golden, arena, monkeypatch):
    """If the detector has the picture there, it isn't copied again; the hands are equal bit by bit, and the room is free."""
    streams = keeping._refiner.predictor.engine.streams
    uploads, upload = [], streams.upload
    monkeypatch.setattr(streams, "upload", lambda image: uploads.append(1) or upload(image))
    copied = HamerDetector(Boxes(golden), keeping._refiner).detect(golden.image)
    assert uploads == [1]
    for _ in range(5):  # more than there is room for at a time
        hands = keeping.detect(golden.image)
        for name, values in hands.values().items():
            np.testing.assert_array_equal(values, copied.values()[name])
    assert (uploads, arena._rooms.is_empty, len(hands)) == ([1], True, len(golden.boxes))


def test_the_room_is_freed_behind_the_crops(keeping, golden, arena, monkeypatch):
    """The next picture waits for their event: the device may not have made them yet."""
    freed = []
    monkeypatch.setattr(arena, "release", lambda placed, after=None: freed.append((placed, after)))
    keeping.detect(golden.image)
    [(_, after)] = freed
    assert after is not None
    after.synchronize()


@pytest.mark.parametrize(
    "what", ["no hands", "no usable box", "the crops fail", "HaMeR is closed", "the detector fails"]
)
def test_the_room_is_freed_without_crops(keeping, golden, arena, monkeypatch, what):
    """Whatever happens to the picture."""
    detector, refiner = keeping._detector, keeping._refiner
    if what == "no hands":
        detector.hands = Hands.empty()
    elif what == "no usable box":
        detector.hands = Hands(**{name: value[:1] for name, value in detector.hands.values().items()})
        detector.hands.boxes[0] = (5000, 5000, 5100, 5100)
    elif what == "the crops fail":
        monkeypatch.setattr("worker.hamer.predictor.sample_crops", lambda *_args, **_more: 1 // 0)
    elif what == "HaMeR is closed":
        refiner.close()
    else:
        detector.error = ZeroDivisionError()
    future = keeping.submit(golden.image)
    assert (future.exception(60) is None) is what.startswith("no ")
    wait_until(lambda: arena._rooms.is_empty, "the end of the picture")


def test_a_copy_on_another_device_isnt_used(predictor, golden):
    """As of a detector on another GPU."""
    elsewhere = SimpleNamespace(pixels=torch.empty(golden.image.shape, dtype=torch.uint8, device="meta"))
    crops = crops_of_boxes(golden.boxes, golden.is_right)
    found, expected = (predictor.crop(golden.image, crops, uploaded).pixels for uploaded in (elsewhere, None))
    assert torch.equal(found, expected)
