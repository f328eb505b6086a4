import torch

from training.engine.soap import Soap, _follow

SIZES = (1.0, 0.1, 0.01, 0.001)  # of what a coupled loss's directions are worth


def turned(generator):
    return torch.linalg.qr(torch.randn(4, 4, generator=generator)).Q


def coupled():
    """A loss of a matrix whose directions, on either side, are all turned against its rows and columns."""
    generator = torch.Generator().manual_seed(0)
    left, right, wanted = turned(generator), turned(generator), torch.randn(4, 4, generator=generator)
    scale = torch.tensor(SIZES).outer(torch.tensor(SIZES)).sqrt()
    return lambda weight: (scale * (left @ (weight - wanted) @ right)).square().sum()


def learnt(optimizer, loss, weight, steps=300):
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * (1 - step / steps)
        optimizer.zero_grad()
        loss(weight).backward()
        optimizer.step()
    return loss(weight).item()


def stepped(gradients, **more):
    """A weight of ones and its state after steps by these gradients."""
    weight = torch.ones_like(gradients[0]).requires_grad_()
    optimizer = Soap([weight], **{"lr": 0.1, **more})
    for gradient in gradients:
        weight.grad = gradient
        optimizer.step()
    return weight.detach(), optimizer.state[weight]


def of_changing_size(steps=200):
    """Gradients of which the first says nothing of what later ones have: turned directions of unlike sizes."""
    generator = torch.Generator().manual_seed(0)
    left, right, sizes = turned(generator), turned(generator), torch.tensor([1, 0.3, 0.1, 0.03])[:, None]
    later = [left @ (sizes * torch.randn(4, 4, generator=generator)) @ right for _ in range(steps)]
    return [torch.randn(4, 4, generator=generator), *later]


def test_directions_that_go_together_are_learnt_sooner_than_by_adam():
    loss, (first, second) = coupled(), [torch.zeros(4, 4, requires_grad=True) for _ in range(2)]
    assert learnt(Soap([first], 0.1, weight_decay=0), loss, first) < 1e-6
    assert learnt(torch.optim.Adam([second], 0.1, betas=(0.95, 0.95)), loss, second) > 1e-4


def test_eigenvectors_follow_the_average_of_products():
    gradients = of_changing_size()
    _, state = stepped(gradients)
    products = torch.zeros(4, 4)
    for each in gradients:
        products = 0.95 * products + 0.05 * each @ each.T
    torch.testing.assert_close(state["left_products"], products)
    seen = state["left"].T @ products @ state["left"]
    sizes = seen.diagonal()
    assert (seen - sizes.diag()).abs().max() < 0.01 * sizes[0]
    assert sizes.tolist() == sorted(sizes.tolist(), reverse=True)
    torch.testing.assert_close(state["left"].T @ state["left"], torch.eye(4))


def test_squares_stay_with_the_vectors_that_they_are_of():
    square = torch.arange(6.0).reshape(2, 3)
    state = {
        "left_products": torch.diag(torch.tensor([1.0, 4.0])),
        "right_products": torch.diag(torch.tensor([2.0, 1.0, 3.0])),
        "left": torch.eye(2),
        "right": torch.eye(3),
        "square": square,
    }
    _follow(state)
    assert state["left"].abs().tolist() == torch.eye(2)[:, [1, 0]].tolist()
    assert state["right"].abs().tolist() == torch.eye(3)[:, [2, 0, 1]].tolist()
    assert state["square"].tolist() == square[[1, 0]][:, [2, 0, 1]].tolist()


def test_eigenvectors_are_followed_now_and_then():
    gradients = of_changing_size(20)
    never, often = (stepped(gradients, frequency=each)[1]["left"] for each in (1000, 1))
    now_and_then = [stepped(gradients[: steps + 1], frequency=10)[1]["left"] for steps in (9, 10, 19)]
    assert torch.equal(now_and_then[0], never)
    assert torch.equal(now_and_then[1], now_and_then[2])
    assert not torch.equal(now_and_then[1], never)
    assert not torch.equal(now_and_then[2], often)


def test_a_kernel_is_learnt_as_the_matrix_that_it_is():
    loss, kernel = coupled(), torch.zeros(4, 1, 2, 2, requires_grad=True)
    matrix = torch.zeros(4, 4, requires_grad=True)
    of_kernel = learnt(Soap([kernel], 0.1), lambda weight: loss(weight.flatten(1)), kernel)
    assert of_kernel == learnt(Soap([matrix], 0.1), loss, matrix)
    torch.testing.assert_close(kernel.flatten(1), matrix, rtol=0, atol=0)


def test_the_first_step_takes_statistics_and_the_next_one_goes_by_the_rate():
    gradient, wanted = torch.tensor([5.0, -0.01, 0.0]), torch.tensor([0.9, 1.1, 1.0])
    assert stepped([gradient], weight_decay=0)[0].tolist() == [1, 1, 1]
    torch.testing.assert_close(stepped([gradient] * 2, weight_decay=0)[0], wanted, rtol=1e-3, atol=0)


def test_weights_decay_by_the_rate():
    weight, _ = stepped([torch.zeros(2, 3)] * 3, lr=0.5, weight_decay=0.1)
    torch.testing.assert_close(weight, torch.full((2, 3), 0.95**2))


def test_what_has_no_gradient_stays_as_it_is_and_what_has_none_yet_is_learnt_later():
    weight, other = torch.ones(2, 3, requires_grad=True), torch.ones(2, 3, requires_grad=True)
    optimizer = Soap([weight, other], 0.1)
    for step in range(15):
        weight.grad = torch.zeros(2, 3) if step < 11 else torch.ones(2, 3)
        optimizer.step()
    assert (weight < 0.9).all()
    torch.testing.assert_close(other, torch.ones(2, 3))
