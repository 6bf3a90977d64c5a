"""How each of our tensors is made from the official checkpoint's: mostly renamed, sometimes added or concatenated.

Whatever is folded into a tensor here (positions, the query token, the mean hand, the joint regressor) costs nothing in
the forward.
"""

from collections.abc import Callable, Mapping

import torch

from worker.hamer.errors import CheckpointError
from worker.hamer.mano_pickle import ORDER, TIPS, ManoArrays
from worker.hamer.modeling.mano import ManoTopology
from worker.hamer.sizes import LAYERS, HamerSizes
from worker.hands.outputs import JOINTS

Tensors = Mapping[str, torch.Tensor]
Recipe = Callable[[Tensors], torch.Tensor]


def network_recipes(sizes: HamerSizes) -> dict[str, Recipe]:
    """Returns how each of our parameters is made from the checkpoint's tensors."""

    def same(key: str) -> Recipe:
        return lambda t: t[key]

    def rows(key: str, start: int) -> Recipe:
        return lambda t: t[key][start:]

    def joined(*keys: str) -> Recipe:
        return lambda t: torch.cat([t[key] for key in keys])

    def readout_bias(t: Tensors) -> torch.Tensor:
        # The official head adds the mean hand to its readout, which is the same as a bias.
        parts = (("decpose", "init_hand_pose"), ("decshape", "init_betas"), ("deccam", "init_cam"))
        return torch.cat([t[f"mano_head.{linear}.bias"] + t[f"mano_head.{mean}"][0] for linear, mean in parts])

    def token(t: Tensors) -> torch.Tensor:
        # The query is the embedding of a scalar 0, of which only the embedding's bias remains.
        transformer = "mano_head.transformer"
        return t[f"{transformer}.to_token_embedding.bias"] + t[f"{transformer}.pos_embedding"][0, 0]

    def positions(t: Tensors) -> torch.Tensor:
        # Row 0 belonged to a class token; since there is none, it is added to every patch.
        return t["backbone.pos_embed"][:, 1:] + t["backbone.pos_embed"][:, :1]

    recipes: dict[str, Recipe] = {
        "backbone.pos_embed": positions,
        "head.token": token,
        "head.context_kv.weight": joined(*(f"{LAYERS}.{i}.1.fn.to_kv.weight" for i in range(sizes.decoder_depth))),
        "head.readout.weight": joined(*(f"mano_head.{linear}.weight" for linear in ("decpose", "decshape", "deccam"))),
        "head.readout.bias": readout_bias,
    }
    for part in ("weight", "bias"):
        recipes[f"backbone.patch_embed.{part}"] = same(f"backbone.patch_embed.proj.{part}")
        recipes[f"backbone.last_norm.{part}"] = same(f"backbone.last_norm.{part}")
        for i in range(sizes.depth):
            ours = theirs = f"backbone.blocks.{i}"
            for name in ("norm1", "norm2", "attn.qkv", "attn.proj"):
                recipes[f"{ours}.{name}.{part}"] = same(f"{theirs}.{name}.{part}")
            for name in ("fc1", "fc2"):
                recipes[f"{ours}.{name}.{part}"] = same(f"{theirs}.mlp.{name}.{part}")
        for i in range(sizes.decoder_depth):
            ours, theirs = f"head.layers.{i}", f"{LAYERS}.{i}"
            for name, key in (
                ("self_norm", "0.norm"),
                ("self_out", "0.fn.to_out.0"),
                ("cross_norm", "1.norm"),
                ("cross_out", "1.fn.to_out.0"),
                ("mlp_norm", "2.norm"),
                ("fc1", "2.fn.net.0"),
                ("fc2", "2.fn.net.3"),
            ):
                recipes[f"{ours}.{name}.{part}"] = same(f"{theirs}.{key}.{part}")
    for i in range(sizes.decoder_depth):
        recipes[f"head.layers.{i}.self_value.weight"] = rows(
            f"{LAYERS}.{i}.0.fn.to_qkv.weight", 2 * sizes.decoder_inner
        )
        recipes[f"head.layers.{i}.cross_query.weight"] = same(f"{LAYERS}.{i}.1.fn.to_q.weight")
    return recipes


def _mano_recipes(names: Mapping[str, Recipe], tips: torch.Tensor) -> dict[str, Recipe]:
    """Completes the hand model: folds the joint regressor into template and shape directions."""
    template, shapedirs, regressor = names["v_template"], names["shapedirs"], names["j_regressor"]
    folded: dict[str, Recipe] = {
        "j_template": lambda t: regressor(t).float() @ template(t).float(),
        "j_shapedirs": lambda t: torch.einsum("jv,vxs->jxs", regressor(t).float(), shapedirs(t).float()),
        "tips": lambda _: tips,
    }
    return {f"mano.{name}": recipe for name, recipe in (dict(names) | folded).items() if name != "j_regressor"}


def mano_of_tensors(tensors: Tensors) -> tuple[ManoTopology, dict[str, Recipe]]:
    """Returns the checkpoint's hand model.

    Raises:
        CheckpointError: its indices are out of range.
    """

    def numbers(key: str) -> tuple[int, ...]:
        return tuple(int(n) for n in tensors[f"mano.{key}"])

    def same(key: str) -> Recipe:
        return lambda t: t[f"mano.{key}"]

    topology = _topology(numbers("parents"), numbers("extra_joints_idxs"), numbers("joint_map"))
    _check_vertices(tensors["mano.faces_tensor"], topology, len(tensors["mano.v_template"]))
    ours = {name: same(name) for name in ("v_template", "shapedirs", "posedirs", "lbs_weights")}
    ours |= {"j_regressor": same("J_regressor"), "faces": same("faces_tensor")}
    return topology, _mano_recipes(ours, torch.tensor(topology.tips))


def mano_of_arrays(hand: ManoArrays) -> tuple[ManoTopology, dict[str, Recipe]]:
    """Returns the hand model of MANO_RIGHT.pkl.

    Raises:
        CheckpointError: its indices are out of range.
    """

    def array(name: str) -> Recipe:
        return lambda _: torch.from_numpy(getattr(hand, name))

    topology = _topology(tuple(int(p) for p in hand.parents), TIPS, ORDER)
    _check_vertices(torch.from_numpy(hand.faces), topology, len(hand.v_template))
    names = ("v_template", "shapedirs", "posedirs", "lbs_weights", "j_regressor", "faces")
    return topology, _mano_recipes({name: array(name) for name in names}, torch.tensor(TIPS))


def _topology(parents: tuple[int, ...], tips: tuple[int, ...], order: tuple[int, ...]) -> ManoTopology:
    if len(parents) != JOINTS:
        raise CheckpointError(f"the hand model has {len(parents)} joints, expected {JOINTS}")
    try:
        return ManoTopology(parents, tips, order)
    except ValueError as e:
        raise CheckpointError(f"the hand model's parents, extra_joints_idxs or joint_map are wrong: {e}") from e


def _check_vertices(faces: torch.Tensor, topology: ManoTopology, vertices: int) -> None:
    used = {"faces_tensor": faces.flatten().tolist(), "extra_joints_idxs": list(topology.tips)}
    for name, indices in used.items():
        if any(not 0 <= i < vertices for i in indices):
            raise CheckpointError(f"the hand model's {name} exceeds its {vertices} vertices")
