"""Networks against their papers' formulas, written out row by row in float64."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from google.protobuf import text_format
from torch import Tensor, nn

from trainer.models.dcn import DCNV1, DCNV2
from trainer.models.deepfm import DeepFM, factorization_machine
from trainer.models.dlrm import DLRM
from trainer.models.experts import MixtureOfExperts
from trainer.models.layers import Dice
from trainer.models.mask_net import MaskBlock, MaskBlocks
from trainer.models.pepnet import PEPNet
from trainer.models.ple import PLE
from trainer.models.wukong import WuKongLayer
from trainer.protos import pipeline_pb2 as pb
from trainer.tasks import Task

TASK = Task(name="click", label="click", num_class=1, losses=())
TASKS = [TASK, Task(name="buy", label="buy", num_class=1, losses=())]
TOWERS = 'task_towers { tower_name: "click" } task_towers { tower_name: "buy" }'
# Where an MLP is not the point it is a linear layer: `activation: ""`.


def message(kind: Any, text: str) -> Any:
    return text_format.Parse(text, kind())


def weights(net: nn.Module) -> dict[str, np.ndarray]:
    return {name: each.detach().numpy() for name, each in net.named_parameters()}


def randomize(net: nn.Module) -> nn.Module:
    """float64, with no parameter left at a value that hides a mistake (a bias of 0)."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in net.double().parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.5)
    return net


def rows(*shape: int) -> Tensor:
    torch.manual_seed(2)
    return torch.randn(*shape, dtype=torch.float64)


def softmax(x: np.ndarray) -> np.ndarray:
    return np.exp(x) / np.exp(x).sum()


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def layer_norm(x: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> np.ndarray:
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5) * scale + shift


def test_fm_sums_products_of_pairs():
    x = rows(3, 4, 5)
    pairs = sum(x[:, i] * x[:, j] for i in range(4) for j in range(i))
    torch.testing.assert_close(factorization_machine(x), pairs)


@pytest.mark.parametrize("groups", [("wide", "deep"), ("wide", "deep", "fm")])
@pytest.mark.parametrize("final", ["", 'final { hidden_units: 6 activation: "" }'])
def test_deepfm(groups, final):
    config = message(pb.DeepFM, f'deep {{ hidden_units: 3 activation: "" }} {final}')
    widths = {"wide": (4, 4), "deep": (2, 2, 2), "fm": (2, 2)}
    net = randomize(DeepFM({name: widths[name] for name in groups}, config, [TASK]))
    inputs = {name: rows(3, sum(widths[name])) for name in groups}
    w = weights(net)
    for b in range(3):
        x = {name: each[b].numpy() for name, each in inputs.items()}
        fm = x["fm" if "fm" in groups else "deep"].reshape(-1, 2)
        pairs = [fm[i] * fm[j] for i in range(len(fm)) for j in range(i)]
        second = np.sum(pairs, axis=0)
        deep = w["deep.0.weight"] @ x["deep"] + w["deep.0.bias"]
        if final:
            joined = np.concatenate([[x["wide"].sum()], second, deep])
            top = w["final.0.weight"] @ joined + w["final.0.bias"]
            logit = w["output.weight"] @ top + w["output.bias"]
        else:
            logit = x["wide"].sum() + second.sum() + w["output.weight"] @ deep + w["output.bias"]
        assert net(inputs)[0]["click"][b].item() == pytest.approx(logit.item())


@pytest.mark.parametrize("low_rank", [None, 2])
def test_cross_layers(low_rank):
    """x_{l+1} = x_0 (w_l . x_l) + b_l + x_l and x_0 * (V U x_l + b_l) + x_l."""
    end = 'final { hidden_units: 2 activation: "" }'
    if low_rank is None:
        config = message(
            pb.DCNV1, f'cross {{ cross_num: 2 }} deep {{ hidden_units: 1 activation: "" }} {end}'
        )
        net = randomize(DCNV1({"all": (2, 3)}, config, [TASK]))
    else:
        config = message(pb.DCNV2, f"cross {{ cross_num: 2 low_rank: {low_rank} }} {end}")
        net = randomize(DCNV2({"all": (2, 3)}, config, [TASK]))
    inputs, w = rows(3, 5), weights(net)
    for b, x0 in enumerate(inputs.numpy()):
        x = x0
        for layer in range(2):
            bias = w[f"cross.bias.{layer}"].ravel()
            if low_rank is None:
                x = x0 * (w[f"cross.kernels.{layer}"].ravel() @ x) + bias + x
            else:
                low = w[f"cross.V_kernels.{layer}"] @ x
                x = x0 * (w[f"cross.W_kernels.{layer}"] @ low + bias) + x
        if low_rank is None:
            x = np.concatenate([x, w["deep.0.weight"] @ x0 + w["deep.0.bias"]])
        logit = w["output.weight"] @ (w["final.0.weight"] @ x + w["final.0.bias"])
        assert net({"all": inputs})[0]["click"][b].item() == pytest.approx(logit.item())


@pytest.mark.parametrize("has_dense", [4, 3, 0], ids=["dense", "dense of another width", "sparse"])
@pytest.mark.parametrize("with_sparse", [True, False])
def test_dlrm_multiplies_each_pair_once(has_dense, with_sparse):
    dense = f'dense_mlp {{ hidden_units: {has_dense} activation: "" }}' if has_dense else ""
    flag = str(with_sparse).lower()
    text = f'{dense} arch_with_sparse: {flag} final {{ hidden_units: 3 activation: "" }}'
    widths: dict[str, tuple[int, ...]] = {"dense": (1, 2), "sparse": (4, 4, 4)}
    widths = widths if has_dense else {"anything": (4, 4, 4)}
    net = randomize(DLRM(widths, message(pb.DLRM, text), [TASK]))
    inputs = {name: rows(3, sum(each)) for name, each in widths.items()}
    w = weights(net)
    for b in range(3):
        sparse = list(inputs["sparse" if has_dense else "anything"][b].numpy().reshape(3, 4))
        front = []
        if has_dense:
            name = "tokens.dense_mlp"
            x = w[f"{name}.0.0.weight"] @ inputs["dense"][b].numpy() + w[f"{name}.0.0.bias"]
            if has_dense != 4:
                x = w[f"{name}.1.weight"] @ x + w[f"{name}.1.bias"]
            front = [x]
        tokens = front + sparse
        pairs = [
            tokens[i] @ tokens[j] for i in range(len(tokens)) for j in range(i + 1, len(tokens))
        ]
        joined = np.concatenate([pairs, *front, *(sparse if with_sparse else [])])
        top = w["final.0.weight"] @ joined + w["final.0.bias"]
        logit = w["output.weight"] @ top + w["output.bias"]
        assert net(inputs)[0]["click"][b].item() == pytest.approx(logit.item())


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("", 4),
        ("reduction_ratio: 1.5", 6),
        ("aggregation_dim: 9", 9),
        ("reduction_ratio: 0 aggregation_dim: 9", 9),
        ("reduction_ratio: 1.5 aggregation_dim: 9", 6),
    ],
)
def test_a_positive_ratio_goes_before_the_width_between_a_masks_layers(text, width):
    net = MaskBlock(4, 5, message(pb.MaskBlock, f"hidden_dim: 3 {text}"))
    shapes = {name: tuple(each.shape) for name, each in net.mask.named_parameters()}
    assert (shapes["0.weight"], shapes["2.weight"]) == ((width, 5), (4, width))


@pytest.mark.parametrize("parallel", [True, False])
def test_mask_blocks(parallel):
    """ReLU(LayerNorm(W (x * mask(v)))), x the normalised features or the block before."""
    text = f"n_mask_blocks: 2 use_parallel: {str(parallel).lower()} "
    config = message(pb.MaskNetModule, text + "mask_block { hidden_dim: 3 reduction_ratio: 1.5 }")
    net = randomize(MaskBlocks(5, config))
    inputs, w = rows(4, 5), weights(net)
    for b, v in enumerate(inputs.numpy()):
        x = layer_norm(v, w["norm.weight"], w["norm.bias"])
        found = []
        for i in range(2):
            at = f"blocks.{i}"
            hidden = np.maximum(w[f"{at}.mask.0.weight"] @ v + w[f"{at}.mask.0.bias"], 0)
            mask = w[f"{at}.mask.2.weight"] @ hidden + w[f"{at}.mask.2.bias"]
            source = x if parallel or not found else found[-1]
            y = w[f"{at}.hidden.0.weight"] @ (source * mask) + w[f"{at}.hidden.0.bias"]
            y = layer_norm(y, w[f"{at}.hidden.1.weight"], w[f"{at}.hidden.1.bias"])
            found.append(np.maximum(y, 0))
        expected = np.concatenate(found) if parallel else found[-1]
        np.testing.assert_allclose(net(inputs)[b].detach().numpy(), expected)
    between = len(w["blocks.1.mask.0.bias"])  # a multiple of the block's own input
    assert between == int(1.5 * (5 if parallel else 3))


@pytest.mark.parametrize("num_tokens", [3, 5])
def test_wukong_layer(num_tokens):
    """LayerNorm(FM block beside linear compression + residual); 5 tokens need no projection."""
    text = "lcb_feature_num: 2 fmb_feature_num: 3 compressed_feature_num: 2 "
    config = message(pb.WuKongLayer, text + 'feature_num_mlp { hidden_units: 4 activation: "" }')
    net = randomize(WuKongLayer(4, num_tokens, config))
    inputs, w = rows(3, num_tokens, 4), weights(net)
    for b, x in enumerate(inputs.numpy()):  # [N, D]
        pairs = x @ (x.T @ w["pairs.combine.weight"])  # [N, C]
        hidden = layer_norm(pairs.ravel(), w["pairs.hidden.0.weight"], w["pairs.hidden.0.bias"])
        hidden = w["pairs.hidden.1.0.weight"] @ hidden + w["pairs.hidden.1.0.bias"]
        fm = (w["pairs.hidden.2.weight"] @ hidden + w["pairs.hidden.2.bias"]).reshape(3, 4)
        linear = w["compress.weight"].T @ x
        residual = x if num_tokens == 5 else w["residual.weight"].T @ x
        total = np.concatenate([fm, linear]) + residual
        expected = [layer_norm(row, w["norm.weight"], w["norm.bias"]) for row in total]
        np.testing.assert_allclose(net(inputs)[b].detach().numpy(), np.array(expected))


def test_mixture_of_experts():
    config = message(pb.MMoE, 'expert_mlp { hidden_units: 3 activation: "" } num_expert: 4')
    net = randomize(MixtureOfExperts(5, config, num_tasks=2))
    inputs, w = rows(3, 5), weights(net)
    mixtures, experts = net(inputs)
    for b, x in enumerate(inputs.numpy()):
        given = np.stack(
            [w[f"experts.{e}.0.weight"] @ x + w[f"experts.{e}.0.bias"] for e in range(4)]
        )
        np.testing.assert_allclose(experts[b].detach().numpy(), given)
        for task in range(2):
            gate = softmax(w[f"gates.{task}.1.weight"] @ x + w[f"gates.{task}.1.bias"])
            np.testing.assert_allclose(mixtures[task][b].detach().numpy(), gate @ given)


def test_ple_extracts_in_layers():
    layer = """extraction_networks { expert_num_per_task: 2 share_num: 1
        task_expert_net { hidden_units: 3 activation: "" }
        share_expert_net { hidden_units: 3 activation: "" } }"""
    net = randomize(PLE({"all": (4,)}, message(pb.PLE, layer * 2 + TOWERS), TASKS))
    inputs, w = rows(3, 4), weights(net)
    logits, shared = net({"all": inputs})
    assert shared is not None

    def linear(at: str, x: np.ndarray) -> np.ndarray:
        return w[f"{at}.weight"] @ x + w[f"{at}.bias"]

    for b, x in enumerate(inputs.numpy()):
        own, common, of_all = [x, x], x, []
        for n in range(2):
            at = f"networks.{n}"
            of_task = [
                [linear(f"{at}.experts.{t}.{e}.0", own[t]) for e in range(2)] for t in range(2)
            ]
            of_all = [linear(f"{at}.shared_experts.0.0", common)]
            own = [
                softmax(linear(f"{at}.gates.{t}", own[t])) @ np.stack(of_task[t] + of_all)
                for t in range(2)
            ]
            if n == 0:
                everyone = np.stack(of_task[0] + of_task[1] + of_all)
                common = softmax(linear(f"{at}.shared_gate", common)) @ everyone
        np.testing.assert_allclose(shared[b].detach().numpy(), np.stack(of_all))
        for t, task in enumerate(("click", "buy")):
            expected = linear(f"towers.towers.{task}.1", own[t])
            np.testing.assert_allclose(logits[task][b].detach().numpy(), expected)


def test_pepnet_gates():
    """gamma * sigmoid(W2 relu(W1 [personal, features])) on the embeddings and on each layer."""
    text = f"""ppnet_hidden_units: [4, 3] ppnet_activation: "nn.Tanh" ppnet_gamma: 3
        epnet_hidden_unit: 6 epnet_gamma: 1.5 domain_input_name: "market" task_domain_num: 2
        {TOWERS}"""
    widths: dict[str, tuple[int, ...]] = {"all": (2, 3), "domain": (2,), "uia": (3,)}
    net = randomize(PEPNet(widths, message(pb.PEPNet, text), TASKS))
    inputs = {name: rows(3, sum(each)) for name, each in widths.items()}
    inputs["market.label"] = torch.tensor([0, 1, 0])
    logits, shared = net(inputs)
    assert shared is not None
    w = weights(net)

    def gate(at: str, personal: np.ndarray, x: np.ndarray, gamma: float) -> np.ndarray:
        joined = np.concatenate([personal, x])
        hidden = np.maximum(w[f"{at}.layers.0.weight"] @ joined + w[f"{at}.layers.0.bias"], 0)
        return gamma * sigmoid(w[f"{at}.layers.2.weight"] @ hidden + w[f"{at}.layers.2.bias"])

    for b in range(3):
        x = {name: each[b].numpy() for name, each in inputs.items()}
        features = x["all"] * gate("embedding_gate", x["domain"], x["all"], 1.5)
        np.testing.assert_allclose(shared[b].detach().numpy(), features)
        for t, task in enumerate(("click", "buy")):
            hidden = features
            for n in range(2):
                at = f"personalized.{t}"
                layer = f"{at}.layers.{n}.0"
                hidden = np.tanh(w[f"{layer}.weight"] @ hidden + w[f"{layer}.bias"])
                hidden = hidden * gate(f"{at}.gates.{n}", x["uia"], features, 3.0)
            tower = f"towers.{int(x['market.label'])}.towers.{task}.1"
            expected = w[f"{tower}.weight"] @ hidden + w[f"{tower}.bias"]
            np.testing.assert_allclose(logits[task][b].detach().numpy(), expected)


def test_gates_of_pepnet_give_the_features_no_gradient():
    net = randomize(PEPNet({"all": (3,), "domain": (2,)}, message(pb.PEPNet, TOWERS), TASKS))
    features, domain = rows(4, 3).requires_grad_(), rows(4, 2)
    _, shared = net({"all": features, "domain": domain})
    assert shared is not None
    (gradient,) = torch.autograd.grad(shared.sum(), features)
    torch.testing.assert_close(gradient, (shared / features).detach())  # the gate alone


def test_dice():
    layer = Dice(2)
    randomize(layer)
    x = rows(6, 2)
    normal = (x - x.mean(0)) / (x.var(0, unbiased=False) + 1e-5).sqrt()
    share, alpha = normal.sigmoid(), layer.alpha
    torch.testing.assert_close(layer(x), share * x + (1 - share) * alpha * x)
    assert math.isfinite(layer(x[:0]).sum().item())
