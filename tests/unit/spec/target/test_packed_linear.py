import pytest
import torch
import torch.nn.functional as F

from edgeai.spec.target.packed_linear import PackedLinear

# Both sides sum 512 products in another order. float32: 512 * 2^-24 * |typical sum 22| = 7e-4 at worst, far less in
# practice; bfloat16 rounds the result once: half a unit of 2^-8 relative, of values up to about 100.
TOLERANCES = {torch.float32: 1e-3, torch.bfloat16: 0.6}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("outputs", "inputs"), [(384, 512), (20, 30)])  # packed and left plain
@pytest.mark.parametrize("with_bias", [False, True])
def test_equals_the_plain_product(dtype, outputs, inputs, with_bias):
    torch.manual_seed(0)
    weight = torch.randn(outputs, inputs).to(dtype)
    bias = torch.randn(outputs).to(dtype) if with_bias else None
    packed = PackedLinear(weight, bias)
    for shape in ((1, inputs), (5, inputs), (2, 3, inputs)):
        x = torch.randn(shape).to(dtype)
        expected = F.linear(x.double(), weight.double(), bias.double() if with_bias else None)
        with torch.inference_mode():
            out = packed(x)
        assert out.dtype == dtype
        assert (out.double() - expected).abs().max() < TOLERANCES[dtype]
