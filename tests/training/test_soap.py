import torch

from training.soap import Soap

SIZES = (1.0, 0.1, 0.01, 0.001)  # of what a coupled loss's directions are worth


def coupled(seed=0):
    """A loss of a matrix whose directions, on either side, are all turned against its rows and columns."""
    generator = torch.Generator().manual_seed(seed)
    left, right, wanted = torch.randn(3, len(SIZES), len(SIZES), generator=generator)
    left, right = (torch.linalg.qr(each).Q for each in (left, right))
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


def test_directions_that_go_together_are_learnt_sooner_than_by_adam():
    loss, (first, second) = coupled(), [torch.zeros(4, 4, requires_grad=True) for _ in range(2)]
    assert learnt(Soap([first], 0.1, weight_decay=0), loss, first) < 1e-6
    assert learnt(torch.optim.Adam([second], 0.1), loss, second) > 1e-4


def test_a_kernel_is_learnt_as_the_matrix_that_it_is():
    loss, kernel = coupled(), torch.zeros(4, 1, 2, 2, requires_grad=True)
    matrix = torch.zeros(4, 4, requires_grad=True)
    of_kernel = learnt(Soap([kernel], 0.1), lambda weight: loss(weight.flatten(1)), kernel)
    assert of_kernel == learnt(Soap([matrix], 0.1), loss, matrix)
    torch.testing.assert_close(kernel.flatten(1), matrix, rtol=0, atol=0)


def test_the_first_step_takes_statistics_and_the_next_one_goes_by_the_rate():
    vector = torch.zeros(3, requires_grad=True)
    optimizer = Soap([vector], 0.1, weight_decay=0)
    vector.grad = torch.tensor([5.0, -0.01, 0.0])
    optimizer.step()
    assert vector.tolist() == [0, 0, 0]
    optimizer.step()
    torch.testing.assert_close(vector.detach(), torch.tensor([-0.1, 0.1, 0.0]))


def test_what_has_no_gradient_stays_as_it_is_and_what_has_none_yet_is_learnt_later():
    weight, other = torch.ones(2, 3, requires_grad=True), torch.ones(2, 3, requires_grad=True)
    optimizer = Soap([weight, other], 0.1)
    for step in range(15):
        weight.grad = torch.zeros(2, 3) if step < 11 else torch.ones(2, 3)
        optimizer.step()
    assert (weight < 0.9).all()
    torch.testing.assert_close(other, torch.ones(2, 3))
