r"""What alpha that decays is worth to a fund that trades again and again.

Garleanu and Pedersen maximise the expected sum over periods of x'alpha - (g/2) x'Vx - c(x - x_before), where alpha keeps a share 1 - phi of
itself from one period to the next and costs are c(u) = (k/2) u'Vu. At the optimum every trade goes the same share of the way to an aim,

.. math::

    x = h + s\,(\mathrm{aim} - h), \qquad \frac{s^2}{1-s} = \frac{g}{k}, \qquad
    \mathrm{aim} = \frac{(gV)^{-1}\alpha}{1 + \varphi\,(1-s)/s}.

The very same trade is the best one of a single period, if that period charges the share s of a trade's cost and counts the share f of alpha:

.. math::

    \max_x \; f\,\alpha'x - \tfrac{g}{2} x'Vx - s\,c(x - h), \qquad f = \frac{1}{1 + \varphi\,(1-s)/s} = \sum_{j \ge 0} s(1-s)^j (1-\varphi)^j,

for its solution goes g/(g + s k) = s of the way. A position lasts 1/s periods on average: s spreads a trade's cost over its life, and f is the mean
of alpha over it. So looking ahead takes no other problem, and every limit holds as before: the optimizer charges 252/H of a trade's cost a
year for an expected holding of H days, which is the inverse of the trading rate, and in days, with half-life L,

.. math::

    f = \frac{1}{1 + \kappa H}, \qquad \kappa = \frac{\ln 2}{L}.

The fund's own costs, linear and 3/2 power, stand in the place of the quadratic ones; for them the trade is near the best, not exactly it.

References: Garleanu, Pedersen (2013), Dynamic Trading with Predictable Returns and Transaction Costs, Journal of Finance 68(6); the same (2016),
Dynamic Portfolio Choice with Frictions, Journal of Economic Theory 165, for continuous time.
"""

from __future__ import annotations

import math

from engine.mandate import Mandate

__all__ = ["lifetime_share"]


def lifetime_share(mandate: Mandate) -> float:
    """Return alpha's mean over the expected life of a position, as a share of its mean over the horizon it is stated for.

    1 where the mandate's alpha has no half-life. Above 1 where positions live shorter than the horizon.

    Notes
    -----
    The information coefficient is that of `horizon_days` d. Alpha that halves every L days has the mean a (1 - exp(-kappa d))/(kappa d) over
    them, where a is what it is at the start; over a life that ends on any day with probability 1/H it has the mean a/(1 + kappa H).

    Examples
    --------
    >>> from engine import ONE
    >>> lifetime_share(ONE)
    1.0
    >>> fast = ONE.model_copy(update={"alpha": ONE.alpha.model_copy(update={"half_life_days": 5.0})})
    >>> round(lifetime_share(fast), 3)
    0.317
    """
    life = mandate.alpha.half_life_days
    if life is None:
        return 1.0
    kappa = math.log(2.0) / life
    stated = -math.expm1(-kappa * mandate.alpha.horizon_days) / (kappa * mandate.alpha.horizon_days)
    return 1.0 / (1.0 + kappa * mandate.costs.expected_holding_days) / stated
