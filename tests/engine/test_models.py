"""Architectures: sizes as published, inputs of other sizes, and clear words where a model does not fit."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd_engine._torchvision import import_torchvision
from kd_engine.errors import KdError, RecipeError
from kd_engine.models import classifier, count_macs, count_parameters, create, family_of, taps_of
from kd_engine.models.resnet import BasicBlock
from kd_engine.models.torchvision import TorchvisionFamily
from kd_engine.registry import discover
from kd_engine.taps import Reader, Tap, measure

# Parameters and millions of multiply-adds with 100 classes at 32×32, counted from RepDistiller's `models/`.
PUBLISHED = {
    "resnet8": (83_892, 12.5),
    "resnet14": (181_108, 26.7),
    "resnet20": (278_324, 40.8),
    "resnet32": (472_756, 69.1),
    "resnet44": (667_188, 97.4),
    "resnet56": (861_620, 125.8),
    "resnet110": (1_736_564, 253.2),
    "resnet8x4": (1_233_540, 177.1),
    "resnet32x4": (7_433_860, 1083.0),
    "wrn_16_1": (180_916, 26.7),
    "wrn_16_2": (703_284, 101.1),
    "wrn_40_1": (569_780, 83.3),
    "wrn_40_2": (2_255_156, 327.6),
    "vgg8": (3_965_028, 96.2),
    "vgg11": (9_277_284, 209.4),
    "vgg13": (9_462_180, 284.9),
    "vgg16": (14_774_436, 398.2),
    "vgg19": (20_086_692, 511.4),
    "mobilenetv2": (812_836, 6.5),
    "shufflenetv1": (949_258, 38.7),
    "shufflenetv2": (1_355_528, 44.5),
    "resnet50-cifar": (23_705_252, 1298.0),
}
# Channels at height of the stages at 32×32, from the same code.
MAPS = {
    "resnet20": "16@32 32@16 64@8",
    "resnet110": "16@32 32@16 64@8",
    "resnet8x4": "64@32 128@16 256@8",
    "resnet32x4": "64@32 128@16 256@8",
    "wrn_16_1": "16@32 32@16 64@8",
    "wrn_40_2": "32@32 64@16 128@8",
    "vgg8": "128@16 256@8 512@4 512@4",
    "vgg19": "128@16 256@8 512@4 512@4",
    "mobilenetv2": "12@16 16@8 48@4 160@2",
    "shufflenetv1": "240@16 480@8 960@4",
    "shufflenetv2": "116@16 232@8 464@4",
    "resnet50-cifar": "256@32 512@16 1024@8 2048@4",
}
STEMS = {
    "resnet20": "16@32",
    "resnet8x4": "32@32",
    "wrn_40_2": "16@32",
    "vgg8": "64@32",
    "mobilenetv2": "16@16",
}
# From torchdistill: parameters only.
LARGE = {"wrn_40_4": 8_972_340, "wrn_16_8": 11_007_540, "wrn_28_10": 36_536_884}
# One of each of torchvision's families, the smallest.
FAMILIES = (
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "inception_v3", "maxvit_t",
    "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "resnet18", "resnet50", "shufflenet_v2_x0_5",
    "squeezenet1_1", "swin_t", "swin_v2_t", "vgg11_bn", "vit_b_32",
)  # fmt: skip


def on_meta(model: str, classes: int, size: int = 32) -> nn.Module:
    """The model without memory for its weights."""
    with torch.device("meta"):
        return create(model, classes, size)


@pytest.mark.parametrize("model", PUBLISHED)
def test_parameters_and_multiply_adds_are_those_of_the_literature(model: str) -> None:
    module = on_meta(model, 100)
    parameters, millions = PUBLISHED[model]
    assert count_parameters(module) == parameters
    assert round(count_macs(module, 32) / 1e6, 1) == millions


@pytest.mark.parametrize("model", MAPS)
def test_feature_maps_have_the_shapes_of_the_literature(model: str) -> None:
    module = on_meta(model, 100)
    shapes = measure(module, taps_of(model, module), 32).taps
    seen = {name: f"{shape[0]}@{shape[1]}" for name, shape in shapes.items() if len(shape) == 3}
    count = len(MAPS[model].split())
    for series in ("stage", "preact"):
        assert " ".join(seen[f"{series}{k}"] for k in range(1, count + 1)) == MAPS[model]
    assert f"stage{count + 1}" not in seen
    assert seen["stem"] == STEMS.get(model, seen["stem"])


@pytest.mark.parametrize("model", LARGE)
def test_large_wide_resnets_have_the_published_number_of_parameters(model: str) -> None:
    assert count_parameters(on_meta(model, 100)) == LARGE[model]


def test_the_small_cnn_weighs_a_few_kilobytes() -> None:
    assert 4 * count_parameters(create("cnn", 10)) < 10_000
    assert 4 * count_parameters(create("cnn", 10, width=2)) < 4_000


def test_shortcut_a_takes_every_other_pixel_and_pads_channels_with_zeros() -> None:
    torch.manual_seed(0)
    block, x = BasicBlock(16, 32, 2, "A").eval(), torch.randn(2, 16, 9, 9)
    short = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 32 // 4, 32 // 4), "constant", 0)  # as akamaster writes it
    y = block.bn2(block.conv2(F.relu(block.bn1(block.conv1(x)))))
    assert torch.equal(block(x), F.relu(y + short))


def test_shortcut_a_costs_no_parameters() -> None:
    convolutional = count_parameters(create("resnet20", 10, shortcut="B"))
    projections = 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64
    assert count_parameters(create("resnet20", 10, shortcut="A")) == convolutional - projections


@pytest.mark.parametrize("model", ["resnet8", "resnet8x4", "wrn_16_1", "cnn"])
@pytest.mark.parametrize("size", [28, 31, 48])
def test_convolutional_networks_take_other_sizes(model: str, size: int) -> None:
    module = create(model, 3, size)
    shapes = measure(module, taps_of(model, module), size)
    half, quarter = (size + 1) // 2, ((size + 1) // 2 + 1) // 2
    assert [shapes.taps[f"stage{k}"][1:] for k in (1, 2, 3)] == [(s, s) for s in (size, half, quarter)]
    assert shapes.classes == 3


def test_wide_resnets_read_activations_without_updating_a_norm_twice() -> None:
    module = create("wrn_16_1", 4)
    with Reader(module, taps_of("wrn_16_1", module).values()) as reader:
        signals = reader(torch.randn(2, 3, 16, 16))
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    assert {int(norm.num_batches_tracked) for norm in norms} == {1}
    assert all(tensor.min() == 0 for name, tensor in signals.taps.items() if name.startswith("st"))


@pytest.mark.parametrize(
    ("model", "words"), [("wrn_17_2", "wrn_16_2 or wrn_22_2"), ("wrn_4_1", "wrn_10_1 or wrn_16_1")]
)
def test_a_wrong_depth_is_told_with_the_next_ones(model: str, words: str) -> None:
    with pytest.raises(KdError, match=words):
        create(model, 10)


def test_vit_weighs_every_token_in_rows_that_sum_to_one() -> None:
    torch.manual_seed(0)
    module = create("vit-tiny", 5, size=16, depth=2, width=24, heads=3)
    batch = torch.randn(2, 3, 16, 16)
    with Reader(module, taps_of("vit-tiny", module).values()) as reader:
        signals = reader(batch)
    assert list(signals.attention) == ["block1", "block2"]
    for weights in signals.attention.values():
        assert weights.shape == (2, 3, 17, 17)
        torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 17))
    assert {name: tuple(t.shape) for name, t in signals.taps.items()} == {
        "block1": (2, 17, 24),
        "block2": (2, 17, 24),
        "value.block1": (2, 3, 17, 8),
        "value.block2": (2, 3, 17, 8),
        "embedding": (2, 24),
    }
    mixed = signals.attention["block2"] @ signals.taps["value.block2"]
    with Reader(module, [Tap("mixed", "blocks.1.attention.out", "tokens", of="input")]) as reader:
        assert reader(batch).taps["mixed"].equal(mixed.transpose(1, 2).reshape(2, 17, 24))


def test_vit_attends_as_torch_does() -> None:
    torch.manual_seed(0)
    ours = create("vit-tiny", 5, size=8, depth=1, width=16, heads=2).blocks[0].attention
    theirs = nn.MultiheadAttention(16, 2, batch_first=True)
    theirs.load_state_dict(
        {
            "in_proj_weight": ours.qkv.weight,
            "in_proj_bias": ours.qkv.bias,
            "out_proj.weight": ours.out.weight,
            "out_proj.bias": ours.out.bias,
        }
    )
    x = torch.randn(3, 5, 16)
    heard: list[Tensor] = []
    ours.weights.register_forward_hook(lambda module, inputs, output: heard.append(output))
    mixed, weights = theirs(x, x, x, average_attn_weights=False)
    torch.testing.assert_close(ours(x), mixed)
    torch.testing.assert_close(heard[0], weights)


def test_vit_says_which_sizes_and_widths_work() -> None:
    with pytest.raises(KdError, match="Images of 28 or 32 pixels work"):
        create("vit-tiny", 10, size=30)
    with pytest.raises(KdError, match=r"does not divide by 3 heads\. Set width to 129"):
        create("vit-tiny", 10, heads=3)
    module = create("vit-tiny", 10, size=16, depth=1, width=16, heads=2)
    with pytest.raises(KdError, match="takes 16×16 images and got 32×32"):
        module(torch.zeros(1, 3, 32, 32))


def test_an_unknown_model_or_setting_is_told_with_a_suggestion() -> None:
    with pytest.raises(KdError, match=r"no model .rsnet8. .did you mean .resnet8."):
        create("rsnet8", 10)
    with pytest.raises(RecipeError, match=r"resnet8.shortcut: got 'C', expected one of A, B"):
        create("resnet8", 10, shortcut="C")
    with pytest.raises(RecipeError, match="did you mean 'width'"):
        create("cnn", 10, widht=3)


def test_no_model_name_belongs_to_two_families() -> None:
    families = discover("models").plugins.values()
    for family in families:
        for model in family.names:
            assert [other.name for other in families if other.accepts(model)] == [family.name]


def test_torchvision_lists_all_of_its_classification_networks() -> None:
    models = import_torchvision().models
    assert [name.removeprefix("torchvision:") for name in TorchvisionFamily.names] == models.list_models(
        module=models
    )


def test_names_that_torchvision_shares_with_small_networks_need_a_prefix() -> None:
    assert {type(create(model, 3, 32)).__name__ for model in ("vgg11", "vgg13")} == {"Vgg"}
    theirs = on_meta("torchvision:vgg11", 1000, 224)
    published = import_torchvision().models.get_model_weights("vgg11").DEFAULT.meta
    assert count_parameters(theirs) == published["num_params"]
    assert family_of("torchvision:vgg11").published == "torchvision"


@pytest.mark.parametrize("model", FAMILIES)
def test_torchvision_networks_get_our_classes_and_their_taps_are_heard(model: str) -> None:
    module = on_meta(model, 7, 224).eval()
    taps = TorchvisionFamily.taps(model, module)
    with torch.no_grad(), Reader(module, taps) as reader:
        signals = reader(torch.empty(2, 3, 224, 224, device="meta"))
    assert signals.logits.shape == (2, 7)
    dims = {"map": 4, "tokens": 3, "vector": 2}
    assert all(signals.taps[tap.name].dim() == dims[tap.layout] for tap in taps)
    heights = [tensor.shape[2] for name, tensor in signals.taps.items() if name.startswith("stage")]
    assert heights == sorted(set(heights), reverse=True)  # one stage a resolution, each smaller than the last
    assert len(heights) >= 2 or model.startswith("vit_")
    assert 0 not in heights
    assert 1 not in heights
    head = module.get_submodule(classifier(module))
    assert signals.taps["embedding"].shape[1] == head.weight.shape[1]


@pytest.mark.parametrize("model", ["resnet50", "vit_b_32", "swin_t", "convnext_tiny", "squeezenet1_1"])
def test_multiply_adds_agree_with_those_that_torchvision_publishes(model: str) -> None:
    published = import_torchvision().models.get_model_weights(model).DEFAULT.meta
    module = on_meta(model, 1000, 224)
    assert count_parameters(module) == published["num_params"]
    assert count_macs(module, 224) / 1e9 == pytest.approx(published["_ops"], rel=0.002)


def test_resnet18_is_read_where_its_paper_puts_the_stages() -> None:
    module = on_meta("resnet18", 10, 224)
    paths = {name: tap.path for name, tap in taps_of("resnet18", module).items()}
    stages = {f"stage{k}": f"layer{k}" for k in (1, 2, 3, 4)}
    assert paths == {"stem": "relu", **stages, "embedding": "fc"}


@pytest.mark.parametrize(
    ("model", "size", "words"),
    [
        ("inception_v3", 32, "It takes 75×75"),
        ("vit_b_32", 30, "It takes 32×32"),
        ("maxvit_t", 32, "It takes 224×224"),
        ("densenet121", 16, "It takes 32×32"),
    ],
)
def test_images_too_small_are_told_with_a_size_that_works(model: str, size: int, words: str) -> None:
    with pytest.raises(KdError, match=words):
        create(model, 10, size)


def test_counting_changes_nothing() -> None:
    module = create("wrn_16_1", 4)
    module.block1.eval()
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    modes, generator = [part.training for part in module.modules()], torch.get_rng_state()
    assert count_macs(module, 32) == count_macs(module, 32) > 0
    assert [part.training for part in module.modules()] == modes
    assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())
    assert all(tensor.device.type == "cpu" for tensor in module.parameters())
    assert torch.equal(torch.get_rng_state(), generator)


def test_the_layer_of_classes_is_found_also_without_a_linear_layer() -> None:
    assert classifier(on_meta("squeezenet1_1", 7, 64)) == "classifier.1"
    assert classifier(create("resnet8", 7)) == "linear"
    with pytest.raises(KdError, match="no layer that gives classes"):
        classifier(nn.Sequential(nn.ReLU()))


def test_families_without_published_weights_say_so() -> None:
    with pytest.raises(KdError, match="no published weights for resnet8"):
        family_of("resnet8").pretrained("resnet8", create("resnet8", 10))
