"""AdamW, Lion, SOAP and schedule-free AdamW against plain NumPy written from the papers' listings, in float64."""

import numpy as np
import pytest
import torch
from torch import nn

from atomiclm.optim import SOAP, AdamW, Lion, ScheduleFreeAdamW

SHAPES = {"square": (5, 5), "wide": (3, 6), "as wide": (3, 6), "tall": (4, 2), "vector": (4,)}
ROLES = {"square": "matrix", "wide": "matrix", "as wide": "matrix", "tall": "residual", "vector": "gain"}
STEPS = 14


def _start():
    generator = np.random.default_rng(0)
    return {name: generator.standard_normal(shape) for name, shape in SHAPES.items()}


def _gradients(step):
    generator = np.random.default_rng(100 + step)
    return {name: generator.standard_normal(shape) for name, shape in SHAPES.items()}


def _rate(step):
    return 0.02 * min(1.0, (step + 1) / 4)


def _ours(kind, read=lambda optimizer, named: named, **settings):
    """The weights after each step, as the optimizer leaves them or as `read` finds them in it."""
    named = {name: nn.Parameter(torch.from_numpy(value.copy())) for name, value in _start().items()}
    optimizer = kind(named.items(), ROLES, lr=0.02, **settings)
    for step in range(STEPS):
        for name, gradient in _gradients(step).items():
            named[name].grad = torch.from_numpy(gradient.copy())
        for group in optimizer.param_groups:
            group["lr"] = _rate(step)
        optimizer.step()
        yield {name: tensor.detach().numpy() for name, tensor in read(optimizer, named).items()}


def _compare(ours, published):
    for step, (mine, theirs) in enumerate(zip(ours, published, strict=True)):
        for name in SHAPES:
            np.testing.assert_allclose(mine[name], theirs[name], rtol=1e-9, atol=1e-11, err_msg=f"{name}, step {step}")


def _decay(name, weight_decay):
    return weight_decay if ROLES[name] in ("matrix", "residual") else 0.0


def _lion(beta1, beta2, weight_decay):
    """Chen et al. 2023, algorithm 2: c_t = interp(g, m, b1); theta -= lr (sign(c_t) + lambda theta)."""
    theta, m = _start(), {name: np.zeros(shape) for name, shape in SHAPES.items()}
    for step in range(STEPS):
        for name, g in _gradients(step).items():
            c = beta1 * m[name] + (1 - beta1) * g
            theta[name] = theta[name] - _rate(step) * (np.sign(c) + _decay(name, weight_decay) * theta[name])
            m[name] = beta2 * m[name] + (1 - beta2) * g
        yield {name: value.copy() for name, value in theta.items()}


@pytest.mark.parametrize(("betas", "weight_decay"), [((0.9, 0.99), 1.0), ((0.6, 0.8), 0.0)])
def test_lion(betas, weight_decay):
    _compare(_ours(Lion, betas=betas, weight_decay=weight_decay), _lion(*betas, weight_decay))


def _adamw(beta1, beta2, eps, weight_decay):
    """Loshchilov and Hutter 2017, algorithm 2, the decay multiplied by the learning rate."""
    theta, m, v = _start(), *({name: np.zeros(shape) for name, shape in SHAPES.items()} for _ in range(2))
    for step in range(STEPS):
        for name, g in _gradients(step).items():
            m[name] = beta1 * m[name] + (1 - beta1) * g
            v[name] = beta2 * v[name] + (1 - beta2) * g**2
            first, second = m[name] / (1 - beta1 ** (step + 1)), v[name] / (1 - beta2 ** (step + 1))
            decayed = theta[name] * (1 - _rate(step) * _decay(name, weight_decay))
            theta[name] = decayed - _rate(step) * first / (np.sqrt(second) + eps)
        yield {name: value.copy() for name, value in theta.items()}


@pytest.mark.parametrize(("betas", "eps", "weight_decay"), [((0.9, 0.95), 1e-8, 0.1), ((0.5, 0.999), 1e-2, 0.0)])
def test_adamw(betas, eps, weight_decay):
    """The fused kernel beside the plain equations."""
    ours = _ours(AdamW, betas=betas, eps=eps, weight_decay=weight_decay)
    _compare(ours, _adamw(*betas, eps, weight_decay))


def test_the_fused_kernel_is_given_the_count_of_steps_in_float32(monkeypatch):
    """On CUDA it takes the bytes for that, whatever their type (fused_adam_utils.cuh), and says nothing."""
    given, fused = [], torch._fused_adamw_
    monkeypatch.setattr(torch, "_fused_adamw_", lambda *a, **k: given.extend(a[5]) or fused(*a, **k))
    list(_ours(AdamW))
    assert {count.dtype for count in given} == {torch.float32}
    assert {float(count) for count in given} == set(range(1, STEPS + 1))


def _schedule_free(beta1, beta2, eps, weight_decay, point):
    """Defazio et al. 2024, algorithm 1, with z, x and y all kept."""
    x, z = _start(), _start()
    v = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    total = 0.0
    y = {name: (1 - beta1) * z[name] + beta1 * x[name] for name in SHAPES}
    for step in range(STEPS):
        rate = _rate(step) * np.sqrt(1 - beta2 ** (step + 1))
        total += rate**2
        c = rate**2 / total
        for name, g in _gradients(step).items():
            v[name] = beta2 * v[name] + (1 - beta2) * g**2
            z[name] = z[name] - rate * g / (np.sqrt(v[name]) + eps) - rate * _decay(name, weight_decay) * y[name]
            x[name] = (1 - c) * x[name] + c * z[name]
            y[name] = (1 - beta1) * z[name] + beta1 * x[name]
        yield {name: value.copy() for name, value in (x if point == "average" else y).items()}


@pytest.mark.parametrize(("betas", "eps", "weight_decay"), [((0.9, 0.999), 1e-8, 0.1), ((0.5, 0.9), 1e-2, 0.0)])
@pytest.mark.parametrize("point", ["average", "training"])
def test_schedule_free(betas, eps, weight_decay, point):
    read = {"average": lambda optimizer, named: optimizer.averaged_weights(), "training": lambda _, named: named}[point]
    ours = _ours(ScheduleFreeAdamW, read, betas=betas, eps=eps, weight_decay=weight_decay)
    _compare(ours, _schedule_free(*betas, eps, weight_decay, point))


def _checked_eigenvectors(matrix, found):
    """`found` if it is an orthonormal basis of eigenvectors by falling eigenvalue. The first gradient leaves a null
    space, in which every basis is as good and the listing does not say which."""
    values = np.sort(np.linalg.eigvalsh(matrix))[::-1]
    np.testing.assert_allclose(found.T @ found, np.eye(len(found)), atol=1e-12)
    np.testing.assert_allclose(found.T @ matrix @ found, np.diag(values), atol=1e-12)
    return found


def _power_step(preconditioner, basis):
    """Algorithm 4, with the columns in the order of falling eigenvalues first, as the authors' code has it."""
    order = np.argsort(-np.diag(basis.T @ preconditioner @ basis))
    return np.linalg.qr(preconditioner @ basis[:, order])[0], order


def _soap(beta1, beta2, eps, weight_decay, every, largest, first_bases):
    """Vyas et al. 2024, algorithm 3; the first gradient sets up the bases and moves nothing. Vectors get AdamW."""
    w = _start()
    m, v = ({name: np.zeros(shape) for name, shape in SHAPES.items()} for _ in range(2))
    left, right, p, q = {}, {}, {}, {}
    for step in range(STEPS):
        for name, g in _gradients(step).items():
            rotated = g.ndim == 2 and min(g.shape) <= largest
            if not rotated:
                t = step + 1
                m[name] = beta1 * m[name] + (1 - beta1) * g
                v[name] = beta2 * v[name] + (1 - beta2) * g**2
                n = (m[name] / (1 - beta1**t)) / (np.sqrt(v[name] / (1 - beta2**t)) + eps)
                w[name] = w[name] - _rate(step) * _decay(name, weight_decay) * w[name] - _rate(step) * n
                continue
            rows, columns = g.shape
            if step == 0:
                left[name], right[name] = (1 - beta2) * g @ g.T, (1 - beta2) * g.T @ g
                found = first_bases[name]
                p[name] = _checked_eigenvectors(left[name], found["left_basis"]) if rows <= largest else np.eye(rows)
                q[name] = (
                    _checked_eigenvectors(right[name], found["right_basis"]) if columns <= largest else np.eye(columns)
                )
                continue
            m[name] = beta1 * m[name] + (1 - beta1) * g
            v[name] = beta2 * v[name] + (1 - beta2) * (p[name].T @ g @ q[name]) ** 2
            adam = (p[name].T @ m[name] @ q[name] / (1 - beta1**step)) / (np.sqrt(v[name] / (1 - beta2**step)) + eps)
            w[name] = w[name] * (1 - _rate(step) * _decay(name, weight_decay))
            w[name] = w[name] - _rate(step) * p[name] @ adam @ q[name].T
            left[name] = beta2 * left[name] + (1 - beta2) * g @ g.T
            right[name] = beta2 * right[name] + (1 - beta2) * g.T @ g
            if step % every == 0:
                if rows <= largest:
                    p[name], order = _power_step(left[name], p[name])
                    v[name] = v[name][order]
                if columns <= largest:
                    q[name], order = _power_step(right[name], q[name])
                    v[name] = v[name][:, order]
        yield {name: value.copy() for name, value in w.items()}


@pytest.mark.parametrize(
    ("betas", "eps", "weight_decay", "every", "largest"),
    [((0.95, 0.95), 1e-8, 0.1, 1, 100), ((0.9, 0.8), 1e-3, 0.0, 3, 100), ((0.95, 0.9), 1e-4, 0.2, 2, 5),
     ((0.95, 0.9), 1e-4, 0.2, 2, 2)],
)  # fmt: skip
def test_soap(betas, eps, weight_decay, every, largest):
    first_bases = {}

    def read(optimizer, named):
        for name, weight in named.items():
            bases = {key: value.numpy().copy() for key, value in optimizer.state[weight].items() if "basis" in key}
            first_bases.setdefault(name, bases)
        return named

    settings = {"betas": betas, "eps": eps, "weight_decay": weight_decay}
    ours = _ours(SOAP, read, refresh_every_steps=every, largest_side=largest, **settings)
    _compare(ours, _soap(*betas, eps, weight_decay, every, largest, first_bases))
