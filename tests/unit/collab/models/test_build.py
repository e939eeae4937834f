"""Models of every format: equal to the original net, trainable or with a reason, and rejected files."""

import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from edgeai.collab.config.models import EdgeCopy, HfModel, InputConfig, OnnxFileModel, StreetNetModel, TorchFileModel
from edgeai.collab.models.build import build_model, build_semantics
from edgeai.collab.models.checkpoint import load_model, save_model
from edgeai.collab.models.class_map import ClassMap
from edgeai.collab.models.inputs import InputFormat
from edgeai.collab.models.state import state_digest
from edgeai.collab.models.street_net import StreetNet, StreetNetShape
from edgeai.collab.models.torch_model import TorchModel
from edgeai.core.errors import UsageError

STREAM = ("sky", "road", "car")
SIZE = (24, 40)
PLAIN = InputConfig(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))


class Stranger(nn.Module):
    """Somebody's net: a quarter of the resolution, a BatchNorm, nothing of ours."""

    def __init__(self, num_classes=3):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, stride=4, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.head = nn.Conv2d(6, num_classes, 1)

    def forward(self, x):
        return self.head(torch.relu(self.norm(self.conv(x))))


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def stranger(num_classes=3):
    torch.manual_seed(1)
    return Stranger(num_classes).eval()


def expected(net, image, mean=PLAIN.mean, std=PLAIN.std):
    """The same by hand: normalize, run, scale up."""
    x = (torch.from_numpy(image).permute(2, 0, 1)[None] / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(
        std
    ).view(3, 1, 1)
    with torch.no_grad():
        return F.interpolate(net(x), SIZE, mode="bilinear", align_corners=False)[0]


def script_file(folder, net):
    path = folder / "net.pt"
    torch.jit.script(net).save(str(path))
    return path


def make_street(num_classes=3, seed=0):
    torch.manual_seed(seed)
    classes = tuple(f"c{i}" for i in range(num_classes)) if num_classes != 3 else STREAM
    net = StreetNet(StreetNetShape(num_classes, width=16, depth=2)).eval()
    identity = ClassMap([(i,) for i in range(num_classes)], num_classes)
    return TorchModel(net, classes=classes, class_map=identity, input_format=InputFormat(), device="cpu")


# ----------------------------------------------------------------------------------------------------------------------
# Other people's files


def test_torchscript_gives_the_original_nets_logits_and_can_be_trained(tmp_path, image):
    net = stranger()
    model = build_model(TorchFileModel(path=script_file(tmp_path, net), input=PLAIN), STREAM, "cpu", size_px=SIZE)
    torch.testing.assert_close(model.logits(image), expected(net, image))
    logits, pooled = model.features(image)
    assert pooled.shape == (6,)  # mean and spread of three classes
    torch.testing.assert_close(logits, model.logits(image))

    assert model.trainable is not None
    assert model.frozen_reason == ""
    before = model.digest
    model.trainable.train()
    optimizer = torch.optim.Adam(model.trainable.parameters(), lr=1e-2)
    images = torch.from_numpy(image)[None]
    losses = []
    for _ in range(5):
        loss = F.cross_entropy(model.forward_batch(images)[0], torch.zeros(1, *SIZE, dtype=torch.long))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert model.digest != before


def test_frozen_torchscript_reports_its_reason(tmp_path, image):
    path = tmp_path / "net.pt"
    torch.jit.freeze(torch.jit.script(stranger())).save(str(path))
    model = build_model(TorchFileModel(path=path, input=PLAIN), STREAM, "cpu", size_px=SIZE)
    torch.testing.assert_close(model.logits(image), expected(stranger(), image), rtol=1e-4, atol=1e-5)  # BN folded
    assert model.trainable is None
    assert "torch.jit.freeze" in model.frozen_reason


def test_exported_program_gives_the_original_nets_logits(tmp_path, image):
    net, path = stranger(), tmp_path / "net.pt2"
    torch.export.save(torch.export.export(net, (torch.zeros(1, 3, *SIZE),)), path)
    model = build_model(TorchFileModel(path=path, input=PLAIN), STREAM, "cpu", size_px=SIZE)
    torch.testing.assert_close(model.logits(image), expected(net, image))
    assert model.trainable is None
    assert model.frozen_reason


def test_exported_program_for_another_size_needs_input_size(tmp_path, image):
    path = tmp_path / "net.pt2"
    torch.export.save(torch.export.export(stranger(), (torch.zeros(1, 3, 32, 32),)), path)
    with pytest.raises(UsageError, match="does not run on an image of 24x40 px") as caught:
        build_model(TorchFileModel(path=path), STREAM, "cpu", size_px=SIZE)
    assert "input.size_px" in caught.value.hint
    config = TorchFileModel(path=path, input=InputConfig(size_px=(32, 32)))
    assert build_model(config, STREAM, "cpu", size_px=SIZE).logits(image).shape == (3, *SIZE)


def test_onnx_gives_the_original_nets_logits(tmp_path, image):
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    net = nn.Conv2d(3, 4, 1).eval()
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w", "b"], ["y"], kernel_shape=[1, 1])],
        "net",
        [helper.make_tensor_value_info("x", kind, ["n", 3, "h", "w_"])],
        [helper.make_tensor_value_info("y", kind, ["n", 4, "h", "w_"])],
        [
            onnx.numpy_helper.from_array(net.weight.detach().numpy(), "w"),
            onnx.numpy_helper.from_array(net.bias.detach().numpy(), "b"),
        ],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "net.onnx"
    onnx.save(proto, path)
    config = OnnxFileModel(path=path, classes=("sky", "road", "car", "van"), class_map={"van": "car"}, input=PLAIN)
    model = build_model(config, STREAM, "cpu", size_px=SIZE)
    by_hand = expected(net, image)
    merged = torch.cat([by_hand[:2], by_hand[2:].logsumexp(0, keepdim=True)])
    torch.testing.assert_close(model.logits(image), merged, rtol=1e-4, atol=1e-5)  # another library's convolution
    assert model.trainable is None
    assert "TorchScript" in model.frozen_reason
    path.write_bytes(b"no model")
    with pytest.raises(UsageError, match="is not an ONNX model"):
        build_model(config, STREAM, "cpu", size_px=SIZE)


def test_transformers_folder_gives_the_original_nets_logits_by_its_own_class_names(tmp_path, image):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.SegformerConfig(
        num_encoder_blocks=2,
        depths=[1, 1],
        sr_ratios=[2, 1],
        hidden_sizes=[8, 16],
        patch_sizes=[7, 3],
        strides=[4, 2],
        num_attention_heads=[1, 2],
        mlp_ratios=[2, 2],
        decoder_hidden_size=16,
        id2label={0: "road", 1: "sky", 2: "truck"},
        label2id={"road": 0, "sky": 1, "truck": 2},
    )
    net = transformers.SegformerForSemanticSegmentation(config).eval()
    net.save_pretrained(tmp_path / "segformer")
    model = build_model(
        HfModel(model=str(tmp_path / "segformer"), class_map={"truck": "car"}, input=PLAIN),
        STREAM,
        "cpu",
        size_px=SIZE,
    )
    by_hand = expected(lambda x: net(pixel_values=x).logits, image)
    torch.testing.assert_close(model.logits(image), by_hand[[1, 0, 2]])
    assert model.trainable is not None
    with pytest.raises(UsageError, match="cannot load"):
        build_model(HfModel(model=str(tmp_path / "nothing")), STREAM, "cpu", size_px=SIZE)


def test_a_net_with_the_wrong_number_of_classes_is_refused_at_the_start(tmp_path):
    path = script_file(tmp_path, stranger(5))
    with pytest.raises(UsageError) as caught:
        build_model(TorchFileModel(path=path), STREAM, "cpu", size_px=SIZE)
    assert caught.value.message == f"{path} has 5 output classes, but the stream has 3: sky, road, car"


def test_files_without_exported_nets_are_rejected(tmp_path):
    path = tmp_path / "state.pt"
    torch.save(stranger().state_dict(), path)
    with pytest.raises(UsageError, match="is not an exported model") as caught:
        build_model(TorchFileModel(path=path), STREAM, "cpu", size_px=SIZE)
    assert "torch.jit.script" in caught.value.hint
    path = tmp_path / "text.pt2"
    path.write_text("no model")
    with pytest.raises(UsageError, match="is not an exported model"):
        build_model(TorchFileModel(path=path), STREAM, "cpu", size_px=SIZE)
    with pytest.raises(UsageError, match="no model at"):
        build_model(TorchFileModel(path=tmp_path / "absent.pt"), STREAM, "cpu", size_px=SIZE)


def test_a_net_that_gives_labels_instead_of_scores_is_refused(tmp_path):
    class Labels(nn.Module):
        def forward(self, x):
            return x.argmax(1)

    path = script_file(tmp_path, Labels())
    with pytest.raises(UsageError, match=r"returns \[1, 24, 40\], not class scores"):
        build_model(TorchFileModel(path=path), STREAM, "cpu", size_px=SIZE)


def test_bgr_input_is_turned_round(image):
    form = InputFormat(mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0), order="bgr")
    x = form.tensor(torch.from_numpy(image)[None])
    assert float(x[0, 0, 3, 4]) == pytest.approx(image[3, 4, 2] / 255 - 0.1)
    assert float(x[0, 2, 3, 4]) == pytest.approx(image[3, 4, 0] / 255 - 0.3)


# ----------------------------------------------------------------------------------------------------------------------
# Our own


def test_digest_sees_names_formats_and_values():
    state = {"a": torch.arange(6.0), "b": torch.zeros(1)}
    others = [
        {"a": torch.arange(6.0), "c": torch.zeros(1)},
        {"a": torch.arange(6.0).half(), "b": torch.zeros(1)},
        {"a": torch.arange(6.0), "b": -torch.zeros(1)},
    ]
    assert len({state_digest(other) for other in [state, *others]}) == 4
    assert state_digest(dict(reversed(state.items()))) == state_digest(state)


def test_saved_net_matches_its_digest(tmp_path, image):
    model = make_street()
    digest = save_model(tmp_path / "net", model, {"seed": 0})
    again = load_model(tmp_path / "net", "cpu")
    assert again.digest == digest
    assert again.classes == STREAM
    # kernels are stored as float16, whose relative rounding is 2^-11
    torch.testing.assert_close(again.logits(image), model.logits(image), rtol=1e-2, atol=1e-2)
    assert save_model(tmp_path / "again", again, {"seed": 0}) == digest  # rounding once is rounding for good
    config = json.loads((tmp_path / "net/config.json").read_text())
    assert config["provenance"] == {"seed": 0}
    assert config["classes"] == list(STREAM)


def test_a_run_folder_resolves_to_its_best_weights(tmp_path):
    digest = save_model(tmp_path / "run/best", make_street(), {})
    assert load_model(tmp_path / "run", "cpu").digest == digest


def test_damaged_weights_are_refused(tmp_path):
    folder = tmp_path / "net"
    save_model(folder, make_street(), {})
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    with pytest.raises(UsageError, match=r"no usable weights in .*: its weights have the digest"):
        load_model(folder, "cpu")
    (folder / "model.safetensors").write_bytes(weights[:100])
    with pytest.raises(UsageError, match="no usable weights in"):
        load_model(folder, "cpu")
    with pytest.raises(UsageError, match="no weights in"):
        load_model(tmp_path, "cpu")


def test_a_street_net_answers_with_the_streams_classes(tmp_path, image):
    save_model(tmp_path / "net", make_street(), {})
    own = load_model(tmp_path / "net", "cpu").logits(image)
    config = StreetNetModel(weights=tmp_path / "net", class_map={"car": "vehicle"})
    model = build_model(config, ("road", "vehicle", "sky"), "cpu")
    torch.testing.assert_close(model.logits(image), own[[1, 2, 0]])
    with pytest.raises(UsageError, match='class "car"'):
        build_model(StreetNetModel(weights=tmp_path / "net"), ("road", "vehicle", "sky"), "cpu")


def test_missing_shipped_weights_suggest_training(monkeypatch, tmp_path):
    monkeypatch.setattr("edgeai.collab.models.checkpoint.SHIPPED", tmp_path)
    with pytest.raises(UsageError) as caught:
        build_model(StreetNetModel(weights="cloud"), STREAM, "cpu")
    assert caught.value.message == "this package does not contain weights for street-cloud"
    assert caught.value.hint == "train them: edgeai collab pretrain -s part.kind=cloud"


@pytest.mark.parametrize("kind", ["street", "script"])
def test_a_copy_of_the_edge_is_independent(tmp_path, image, kind):
    if kind == "street":
        edge = make_street()
    else:
        edge = build_model(TorchFileModel(path=script_file(tmp_path, stranger())), STREAM, "cpu", size_px=SIZE)
    semantics = build_semantics(EdgeCopy(), edge, STREAM, "cpu", size_px=SIZE)
    before = edge.logits(image)
    with torch.no_grad():
        for parameter in edge.trainable.parameters():
            parameter.add_(0.5)
    assert not torch.equal(edge.logits(image), before)
    assert torch.equal(semantics.logits(image), before)


def test_inference_results_can_train_a_head(image):
    logits, pooled = make_street().features(image)
    head = nn.Linear(len(pooled), 1)
    head(pooled).sum().backward()  # features made without gradients still take part in another net's training
    assert head.weight.grad is not None
    assert logits.grad_fn is None
