"""The formula of every registered loss in numpy, of two domains, as its docstring has it.

A formula takes the arrays by name (``vectors``, and the layers that the loss reads), the same arrays for what the loss
holds, and the loss, for its options and what it has learnt. Its derivatives by the first arrays are then the loss's
gradient. It returns what is logged, by the end of the key; the loss is the mean of that, unless there is a ``total``.
"""

from itertools import permutations

import numpy as np
from registered import rows
from scipy import linalg, special, stats
from scipy.spatial.distance import cdist, pdist

SIZES = (6, 5)
IN_BOTH = (slice(2, 6), slice(0, 4))  # rows of the ids 2 to 5 that both domains of SIZES have, see registered.rows
FIRST, SECOND = slice(0, 6), slice(6, 11)

BATCH = rows(*SIZES, seed=4)


def sides(x):
    return x[FIRST], x[SECOND]


def matched(x):
    return tuple(side[ids] for side, ids in zip(sides(x), IN_BOTH))


def of_pair(function):
    """A formula f(a, b, held a, held b, loss) of the two domains' vectors."""
    return lambda v, at, term: {"0-1": function(*sides(v["vectors"]), *sides(at["vectors"]), term)}


def of_matched(function):
    return lambda v, at, term: {"0-1": function(*matched(v["vectors"]), *matched(at["vectors"]), term)}


def of_each_domain(function):
    """A formula f(arrays of the domain, held ones, loss, index of the domain)."""

    def formula(v, at, term):
        own = [({k: x[d] for k, x in v.items()}, {k: x[d] for k, x in at.items()}) for d in (FIRST, SECOND)]
        only = getattr(term, "domains", "all") == "target"
        return {str(d): function(*own[d], term, d) for d in ((1,) if only else (0, 1))}

    return formula


def centred(x):
    return x - x.mean(0)


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def median(x):
    """Lower median distance between different rows."""
    distances = np.sort(pdist(x))
    return distances[(len(distances) - 1) // 2]


# distributions


def gram(term, x, held):
    if getattr(term, "kernel", "gaussian") == "linear":
        return x @ x.T
    sigma = median(held) if isinstance(term.bandwidth, str) else term.bandwidth
    kernels = [np.exp(-cdist(x, x, "sqeuclidean") / (2 * c * sigma**2)) for c in getattr(term, "bandwidths", [1.0])]
    return sum(kernels) / (len(kernels) if getattr(term, "reduce", "mean") == "mean" else 1)


def mean_embeddings(term, kernel, n):
    def within(k):
        return k.mean() if term.estimator == "biased" else (k.sum() - np.trace(k)) / (len(k) * (len(k) - 1))

    return within(kernel[:n, :n]) + within(kernel[n:, n:]) - 2 * kernel[:n, n:].mean()


def mmd(a, b, held_a, held_b, term):
    kernel = gram(term, np.concatenate([a, b]), np.concatenate([held_a, held_b]))
    if term.estimator != "linear":
        return mean_embeddings(term, kernel, len(a))
    x, y = np.arange(0, 4, 2), len(a) + np.arange(0, 4, 2)  # of the five rows of the smaller domain two pairs
    return (kernel[x, x + 1] + kernel[y, y + 1] - kernel[x, y + 1] - kernel[x + 1, y]).mean()


def joint_mmd(v, at, term):
    kernel = gram(term, v["vectors"], at["vectors"]) * gram(term, v["partner"], at["partner"])
    return {"0-1": mean_embeddings(term, kernel, SIZES[0])}


def coral(a, b, _, __, term):
    covariances = np.cov(a.T) - np.cov(b.T)
    return (covariances**2).sum() / (4 * a.shape[1] ** 2) + term.mean * ((a.mean(0) - b.mean(0)) ** 2).mean()


def cmd(a, b, _, __, term):
    a, b = ({"tanh": np.tanh, "sigmoid": special.expit, "none": np.asarray}[term.squash](x) for x in (a, b))
    width = term.interval[1] - term.interval[0]
    value = np.linalg.norm(a.mean(0) - b.mean(0)) / width
    gaps = [(stats.moment(a, k) - stats.moment(b, k)) / width**k for k in range(2, term.moments + 1)]
    return value + sum(np.linalg.norm(gap) for gap in gaps)


def frechet(a, b, _, __, term):
    spread = np.trace(np.cov(a.T)) + np.trace(np.cov(b.T))
    # the trace of (C_a^1/2 C_b C_a^1/2)^1/2, without a root of covariances that have not full rank here
    middle = linalg.svdvals(centred(a) @ centred(b).T).sum() / np.sqrt((len(a) - 1) * (len(b) - 1))
    return term.mean * ((a.mean(0) - b.mean(0)) ** 2).sum() + spread - 2 * middle


def sliced_wasserstein(a, b, _, __, term):
    lines = term._lines(BATCH.vectors).numpy()
    levels = np.arange(30) / 30 + 1 / 60  # of six and of five rows the quantiles are constant over thirtieths
    gaps = [
        np.sort(a @ line)[(levels * 6).astype(int)] - np.sort(b @ line)[(levels * 5).astype(int)] for line in lines.T
    ]
    power = np.mean([(np.abs(gap) ** term.p).mean() for gap in gaps])
    return power ** (1 / term.p) if term.root else power


def sinkhorn(a, b, held_a, held_b, term):
    def transport(x, y):
        cost = cdist(x, y) ** term.p / term.p
        kernel, v = np.exp(-cost / eps), np.ones(len(y))
        for _ in range(300):  # of scalings in turns, where the loss moves both potentials half-way
            u = len(y) / (kernel @ v)
            v = len(x) / (u @ kernel)
        plan = u[:, None] * kernel * v / cost.size
        return (plan * cost).sum() + eps * special.xlogy(plan, plan * cost.size).sum()

    eps = term.epsilon * (median(np.concatenate([held_a, held_b])) ** term.p / term.p if term.relative else 1)
    bias = (transport(a, a) + transport(b, b)) / 2 if term.debiased else 0
    return transport(a, b) - bias


def gromov_wasserstein(a, b, _, __, term):
    """Of as many rows of each: the best of all ways to match them, where the plan is one."""
    n = term.max_rows
    c, d = (x[np.arange(n) * len(x) // n] for x in (a, b))
    c, d = (cdist(x, x) ** (2 if term.within == "squared_euclidean" else 1) for x in (c, d))
    return min(((c - d[np.ix_(p, p)]) ** 2).mean() for p in map(list, permutations(range(n))))


# matched rows


def infonce(a, b, _, __, term):
    s = (a @ b.T if term.similarity == "dot" else unit(a) @ unit(b).T) / term.temperature
    forth, back = (-np.diag(special.log_softmax(s, axis=i)).mean() for i in (1, 0))
    return forth if term.direction == "one_way" else (forth + back) / 2


def perceptron(network, x):
    """Outputs of the layers of a ``torch.nn.Sequential``."""
    functions = {
        "ReLU": lambda x: np.maximum(x, 0), "LeakyReLU": lambda x: np.where(x > 0, x, 0.2 * x), "Tanh": np.tanh,
    }  # fmt: skip
    for layer in network:
        if type(layer).__name__ == "Linear":
            x = x @ layer.weight.detach().numpy().T + (0 if layer.bias is None else layer.bias.detach().numpy())
        else:
            x = functions[type(layer).__name__](x)
    return x


def mapping(a, b, held_a, held_b, term):
    a = perceptron(term.maps["0-1"], held_a if term.gradient == "none" else a)
    b = b if term.gradient == "both" else held_b
    return ((a - b) ** 2).mean() if term.distance == "mse" else 1 - (unit(a) * unit(b)).sum(1).mean()


def barlow_twins(a, b, _, __, term):
    f = a.shape[1]
    c = np.corrcoef(a.T, b.T)[:f, f:]
    return ((1 - np.diag(c)) ** 2).sum() + term.redundancy * ((c**2).sum() - (np.diag(c) ** 2).sum())


def hsic(a, b, held_a, held_b, term):
    k = len(a)
    h = np.eye(k) - 1 / k
    return np.trace(gram(term, a, held_a) @ h @ gram(term, b, held_b) @ h) / (k - 1) ** 2


# each domain


def cluster_entropy(v, _, term, __):
    cosines = unit(v["vectors"]) @ unit(term.prototypes.detach().numpy()).T
    p = special.softmax(cosines / term.temperature, axis=1)
    return stats.entropy(p, axis=1).mean() - term.diversity * stats.entropy(p.mean(0))


def predictions(v, term):
    return special.softmax(v["vectors"] @ v["partner"].T / term.temperature, axis=1)


def prediction_entropy(v, _, term, __):
    return stats.entropy(predictions(v, term), axis=1).mean()


def mcc(v, at, term, _):
    p, sureness = predictions(v, term), stats.entropy(predictions(at, term), axis=1)
    weights = len(p) * (1 + np.exp(-sureness)) / (1 + np.exp(-sureness)).sum()
    correlation = p.T @ np.diag(weights) @ p
    normal = correlation / correlation.sum(1, keepdims=True)
    return (normal.sum() - np.trace(normal)) / p.shape[1]


def difference(v, _, term, __):
    s, p = v["shared"], v["private"]
    if term.kind == "raw":
        return ((s.T @ p) ** 2).sum()
    s, p = centred(s), centred(p)
    return (
        ((s.T @ p / (len(s) - 1)) ** 2).sum() if term.kind == "centred" else ((unit(s).T @ unit(p) / len(s)) ** 2).sum()
    )


def simse(v, at, term, _):
    e = at["input"] - v["reconstruction"]
    return (e**2).mean() - (term.error == "simse") * (e.sum(1) ** 2).mean() / e.shape[1] ** 2


def vib(v, _, __, ___):
    return 0.5 * (v["mean"] ** 2 + np.exp(v["log_variance"]) - 1 - v["log_variance"]).sum(1).mean()


def club(v, _, term, domain):
    s, p = (centred(x) / np.sqrt((centred(x) ** 2).mean()) for x in (v["shared"], v["private"]))
    means, free = np.split(perceptron(term.conditionals[domain], s), 2, axis=1)
    deviations = np.exp(2.5 * np.tanh(free / 5))
    logs = stats.norm(means[:, None], deviations[:, None]).logpdf(p).sum(2)  # row i, column j: log q(p_j | s_i)
    return np.diag(logs).mean() - logs.mean()


# critics: the loss of the vectors is minus what is logged under reversal, and something else under alternation


def named(term, logs, weights):
    """Cross-entropy of the domains, and towards the even distribution, of equal shares of both domains."""
    shares = [(FIRST, 0), (SECOND, 1)]
    loss = -np.mean([(weights[rows] * logs[rows, d]).mean() for rows, d in shares])
    confusion = -np.mean([(weights[rows] * logs[rows].mean(1)).mean() for rows, _ in shares])
    if term.mode == "reversal":
        return {"critic": loss, "total": loss}
    return {"critic": loss, "encoder": (total := -loss if term.goal == "reverse" else confusion), "total": total}


def dann(v, _, term):
    return named(term, special.log_softmax(perceptron(term.critic, v["vectors"]), axis=1), np.ones(11))


def cdan(v, at, term):
    x, g, weights = v["vectors"], at["partner"], np.ones(11)
    if term.map == "multilinear":
        read = np.einsum("ni,nj->nij", x, g).reshape(len(x), -1)
    else:
        read = (x @ term.map_vectors.numpy()) * (g @ term.map_partners.numpy()) / np.sqrt(term.width)
    for of in (FIRST, SECOND) if term.entropy else ():
        p = special.softmax(at["vectors"][of] @ g[of].T, axis=1)
        raw = 1 + np.exp(-stats.entropy(p, axis=1) / np.log(p.shape[1]))
        weights[of] = raw / raw.mean()
    return named(term, special.log_softmax(perceptron(term.critic, read), axis=1), weights)


def wasserstein_critic(v, _, term):
    a, b = sides(perceptron(term.critic, v["vectors"])[:, 0])
    return {"0-1": a.mean() - b.mean(), "encoder": a.mean() - b.mean(), "total": a.mean() - b.mean()}


FORMULAS = {
    "barlow_twins": of_matched(barlow_twins),
    "cdan": cdan,
    "club": of_each_domain(club),
    "cluster_entropy": of_each_domain(cluster_entropy),
    "cmd": of_pair(cmd),
    "contrastive": of_matched(infonce),
    "coral": of_pair(coral),
    "dann": dann,
    "difference": of_each_domain(difference),
    "frechet": of_pair(frechet),
    "function": of_pair(lambda a, b, *_: ((a.mean(0) - b.mean(0)) ** 2).sum()),
    "gromov_wasserstein": of_pair(gromov_wasserstein),
    "hsic": of_matched(hsic),
    "joint_mmd": joint_mmd,
    "mapping": of_matched(mapping),
    "mcc": of_each_domain(mcc),
    "mmd": of_pair(mmd),
    "prediction_entropy": of_each_domain(prediction_entropy),
    "simse": of_each_domain(simse),
    "sinkhorn": of_pair(sinkhorn),
    "sliced_wasserstein": of_pair(sliced_wasserstein),
    "vib": of_each_domain(vib),
    "wasserstein_critic": wasserstein_critic,
}
