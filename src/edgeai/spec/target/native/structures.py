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
        *((name, c_int32) for name in ("num_segments", "num_tokens", "num_logits", "num_features", "threads")),
        *((name, c_void_p) for name in ("positions", "logit_rows", "aux_layers", "x", "logits", "hidden", "features")),
    )
