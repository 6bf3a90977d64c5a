"""How each of our tensors is made from the official checkpoint's: mostly renamed, sometimes added or concatenated.

Each line has our name on the left, and on the right what it is made of. They are generators, so that only one tensor is in
memory at a time. Whatever is folded into a tensor here (positions, the query token, the mean hand, the joint regressor)
costs nothing in the forward.
"""

from collections.abc import Iterator, Mapping

import torch

from worker.hamer.errors import CheckpointError
from worker.hamer.mano_pickle import ORDER, TIPS, ManoArrays
from worker.hamer.modeling.mano import ManoTopology
from worker.hamer.sizes import LAYERS, TRANSFORMER, HamerSizes
from worker.hands.outputs import JOINTS

Tensors = Mapping[str, torch.Tensor]
Weights = Iterator[tuple[str, torch.Tensor]]
"""The names of our tensors, and what they hold."""

BLOCK = {
    "norm1": "norm1",
    "attn.qkv": "attn.qkv",
    "attn.proj": "attn.proj",
    "norm2": "norm2",
    "fc1": "mlp.fc1",
    "fc2": "mlp.fc2",
}
"""The parts of a block of the backbone: ours, and theirs."""

LAYER = {
    "self_norm": "0.norm",
    "self_out": "0.fn.to_out.0",
    "cross_norm": "1.norm",
    "cross_out": "1.fn.to_out.0",
    "mlp_norm": "2.norm",
    "fc1": "2.fn.net.0",
    "fc2": "2.fn.net.3",
}
"""The parts of a layer of the head: ours, and theirs."""

HAND = ("v_template", "shapedirs", "posedirs", "J_regressor", "lbs_weights", "faces_tensor")
"""The tensors of the hand model, without `mano.`."""

READOUT = {"decpose": "init_hand_pose", "decshape": "init_betas", "deccam": "init_cam"}
"""The linear layers that read the token, and the mean hand that is added to each."""


def network_weights(t: Tensors, sizes: HamerSizes) -> Weights:
    """Yields all parameters of backbone and head.

    Args:
        t: the tensors of the official checkpoint.
        sizes: of the same checkpoint.
    """
    yield from _backbone_weights(t, sizes)
    yield from _head_weights(t, sizes)


def _backbone_weights(t: Tensors, sizes: HamerSizes) -> Weights:
    # Row 0 belonged to a class token; since there is none, it is added to every patch.
    yield "backbone.pos_embed", t["backbone.pos_embed"][:, 1:] + t["backbone.pos_embed"][:, :1]
    for part in ("weight", "bias"):
        yield f"backbone.patch_embed.{part}", t[f"backbone.patch_embed.proj.{part}"]
        yield f"backbone.last_norm.{part}", t[f"backbone.last_norm.{part}"]
        for i in range(sizes.depth):
            for ours, theirs in BLOCK.items():
                yield f"backbone.blocks.{i}.{ours}.{part}", t[f"backbone.blocks.{i}.{theirs}.{part}"]


def _head_weights(t: Tensors, sizes: HamerSizes) -> Weights:
    layers = range(sizes.decoder_depth)
    # The query is the embedding of a scalar 0, of which only the embedding's bias remains.
    yield "head.token", t[f"{TRANSFORMER}.to_token_embedding.bias"] + t[f"{TRANSFORMER}.pos_embedding"][0, 0]
    # Every layer reads the same features, so one product computes the keys and values of all.
    yield "head.context_kv.weight", torch.cat([t[f"{LAYERS}.{i}.1.fn.to_kv.weight"] for i in layers])
    for i in layers:
        ours, theirs = f"head.layers.{i}", f"{LAYERS}.{i}"
        # A softmax over a single token is 1: of queries, keys and values only the values matter.
        yield f"{ours}.self_value.weight", t[f"{theirs}.0.fn.to_qkv.weight"][2 * sizes.decoder_inner :]
        yield f"{ours}.cross_query.weight", t[f"{theirs}.1.fn.to_q.weight"]
        for part in ("weight", "bias"):
            for our_name, their_name in LAYER.items():
                yield f"{ours}.{our_name}.{part}", t[f"{theirs}.{their_name}.{part}"]
    yield "head.readout.weight", torch.cat([t[f"mano_head.{linear}.weight"] for linear in READOUT])
    # The official head adds the mean hand to its readout, which is the same as a bias.
    biases = [t[f"mano_head.{linear}.bias"] + t[f"mano_head.{mean}"][0] for linear, mean in READOUT.items()]
    yield "head.readout.bias", torch.cat(biases)


def hand_weights(hand: Tensors, topology: ManoTopology) -> Weights:
    """Yields the buffers of the hand model, with the joint regressor folded into template and shape directions.

    Args:
        hand: its tensors by the names in HAND.
        topology: of the same hand.
    """
    for name in ("v_template", "shapedirs", "posedirs", "lbs_weights"):
        yield f"mano.{name}", hand[name]
    yield "mano.faces", hand["faces_tensor"]
    yield "mano.tips", torch.tensor(topology.tips)
    regressor = hand["J_regressor"].float()
    yield "mano.j_template", regressor @ hand["v_template"].float()
    yield "mano.j_shapedirs", torch.einsum("jv,vxs->jxs", regressor, hand["shapedirs"].float())


def hand_of_checkpoint(t: Tensors) -> tuple[ManoTopology, Tensors]:
    """Returns the checkpoint's hand model: its topology, and its tensors by the names in HAND.

    Raises:
        CheckpointError: its indices are out of range.
    """
    hand = {name: t[f"mano.{name}"] for name in HAND}
    parents, tips, order = (
        tuple(int(n) for n in t[f"mano.{name}"]) for name in ("parents", "extra_joints_idxs", "joint_map")
    )
    return _checked(parents, tips, order, hand), hand


def hand_of_pickle(arrays: ManoArrays) -> tuple[ManoTopology, Tensors]:
    """Returns the hand model of MANO_RIGHT.pkl: its topology, and its tensors by the names in HAND.

    Raises:
        CheckpointError: its indices are out of range.
    """
    hand = {
        "v_template": torch.from_numpy(arrays.v_template),
        "shapedirs": torch.from_numpy(arrays.shapedirs),
        "posedirs": torch.from_numpy(arrays.posedirs),
        "J_regressor": torch.from_numpy(arrays.j_regressor),
        "lbs_weights": torch.from_numpy(arrays.lbs_weights),
        "faces_tensor": torch.from_numpy(arrays.faces),
    }
    return _checked(tuple(int(p) for p in arrays.parents), TIPS, ORDER, hand), hand


def _checked(parents: tuple[int, ...], tips: tuple[int, ...], order: tuple[int, ...], hand: Tensors) -> ManoTopology:
    if len(parents) != JOINTS:
        raise CheckpointError(f"the hand model has {len(parents)} joints, expected {JOINTS}")
    try:
        topology = ManoTopology(parents, tips, order)
    except ValueError as e:
        raise CheckpointError(f"the hand model's parents, extra_joints_idxs or joint_map are wrong: {e}") from e
    vertices = len(hand["v_template"])
    used = {"faces_tensor": hand["faces_tensor"].flatten().tolist(), "extra_joints_idxs": list(tips)}
    for name, indices in used.items():
        if any(not 0 <= i < vertices for i in indices):
            raise CheckpointError(f"the hand model's {name} exceeds its {vertices} vertices")
    return topology
