"""Which grid a host needs to be as accurate as a contender, and what that grid costs.

A host, bare or with a closure, gives on the grids of its ladder a curve from grid (points along x) to time to
decorrelation, and one from grid to cost. The first is read by straight lines over the logarithm of the grid: an error
that falls as a power of the spacing and grows exponentially in time reaches the threshold after a time linear in it.
The second is a power law: straight lines between the logarithms of both.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Ladder:
    """One host from coarse to fine."""

    grids: tuple[int, ...]  # points along x
    decorrelation_times: tuple[float, ...]  # [s]
    costs: tuple[float, ...]  # per simulated time unit [ms]

    def effective_grid(self, decorrelation_time: float, reached_end: bool) -> tuple[float | None, str | None]:
        """Find the grid on which the host keeps the correlation as long.

        Parameters
        ----------
        decorrelation_time : float [s]
        reached_end : bool    the time is only a lower bound: so is the grid, and none is named

        Returns
        -------
        (grid, None) inside the ladder, (None, bound) outside, with a bound such as "> 256" or "< 64"
        """
        # A finer grid that happens to lose the flow sooner must not make the curve ambiguous.
        times = np.maximum.accumulate(self.decorrelation_times)
        num_worse = int(np.searchsorted(times, decorrelation_time))
        if reached_end:
            return None, f"> {self.grids[num_worse - 1]}" if num_worse else f">= {self.grids[0]}"
        if num_worse == len(times):
            return None, f"> {self.grids[-1]}"
        if num_worse == 0 and decorrelation_time < times[0]:
            return None, f"< {self.grids[0]}"
        if decorrelation_time == times[num_worse]:
            return float(self.grids[num_worse]), None
        return float(np.exp(np.interp(decorrelation_time, times, np.log(self.grids)))), None

    def cost_at(self, grid: float) -> float:
        """Return the cost per simulated time unit [ms] of the host on a grid within the ladder."""
        return float(np.exp(np.interp(np.log(grid), np.log(self.grids), np.log(self.costs))))

    def cost_of(self, decorrelation_time: float) -> float | None:
        """Return the cost per simulated time unit [ms] of keeping the correlation as long; None if no rung does.

        What the coarsest grid reaches costs what that grid costs. Between rungs the logarithm of the cost is linear in
        the time, as both that of the grid and that of the cost are. A rung that is no better than a coarser one counts
        for nothing.
        """
        times, useful = np.unique(np.maximum.accumulate(self.decorrelation_times), return_index=True)
        if decorrelation_time > times[-1]:
            return None
        return float(np.exp(np.interp(decorrelation_time, times, np.log(self.costs)[useful])))
