"""The structures of csrc/runtime.h in ctypes."""

import ctypes
from ctypes import POINTER, c_float, c_int32, c_void_p


class Matrix(ctypes.Structure):
    """A packed matrix [n, k]."""

    _fields_ = (("kind", c_int32), ("n", c_int32), ("k", c_int32), ("data", c_void_p), ("bias", c_void_p))


class Layer(ctypes.Structure):
    """The weights of one decoder layer."""

    _fields_ = (
        ("attention_norm", c_void_p),
        ("q_norm", c_void_p),
        ("k_norm", c_void_p),
        ("mlp_norm", c_void_p),
        *((name, Matrix) for name in ("q", "k", "v", "out", "gate", "up", "down")),
    )


class Model(ctypes.Structure):
    """The shape and the weights of a decoder."""

    _fields_ = (
        *(
            (name, c_int32)
            for name in ("hidden", "intermediate", "vocab", "num_layers", "num_heads", "num_kv_heads", "head_dim")
        ),
        ("interleaved", c_int32),
        ("eps", c_float),
        ("cos", c_void_p),
        ("sin", c_void_p),
        ("final_norm", c_void_p),
        ("lm_head", Matrix),
        ("layers", POINTER(Layer)),
    )


class Cache(ctypes.Structure):
    """Keys and values of several sequences."""

    _fields_ = (("base", c_void_p), ("capacity", c_int32), ("batch", c_int32))


class Segment(ctypes.Structure):
    """New tokens of one sequence."""

    _fields_ = (
        *((name, c_int32) for name in ("row", "visible", "start", "first", "size")),
        ("ancestors", c_void_p),
    )


class Pass(ctypes.Structure):
    """One forward pass: what to compute, and where to."""

    _fields_ = (
        ("model", POINTER(Model)),
        ("cache", POINTER(Cache)),
        ("segments", POINTER(Segment)),
        *((name, c_int32) for name in ("num_segments", "num_tokens", "num_logits", "num_features")),
        *((name, c_void_p) for name in ("positions", "logit_rows", "aux_layers", "x", "logits", "hidden", "features")),
    )


class Head(ctypes.Structure):
    """The shape and the weights of a draft head."""

    _fields_ = (
        *(
            (name, c_int32)
            for name in (
                "hidden",
                "intermediate",
                "num_aux",
                "draft_vocab",
                "num_heads",
                "num_kv_heads",
                "head_dim",
                "norm_output",
                "norm_before_residual",
            )
        ),
        ("eps", c_float),
        *(
            (name, c_void_p)
            for name in (
                "cos",
                "sin",
                "fc_norm",
                "embedding_norm",
                "hidden_norm",
                "mlp_norm",
                "final_norm",
                "target_ids",
            )
        ),
        *((name, Matrix) for name in ("fc", "q", "k", "v", "out", "gate", "up", "down", "lm_head", "embedding")),
    )


class NewPairs(ctypes.Structure):
    """New pairs of one sequence."""

    _fields_ = tuple((name, c_int32) for name in ("row", "stable", "first", "count"))


class Draft(ctypes.Structure):
    """One call of the draft head: what to add, the trees' size, and where to write them."""

    _fields_ = (
        ("head", POINTER(Head)),
        ("cache", POINTER(Cache)),
        ("sequences", POINTER(NewPairs)),
        *((name, c_int32) for name in ("num_sequences", "num_pairs", "depth", "width", "nodes")),
        *(
            (name, c_void_p)
            for name in ("tokens", "features", "tree_tokens", "parents", "depths", "ancestors", "scores")
        ),
    )
