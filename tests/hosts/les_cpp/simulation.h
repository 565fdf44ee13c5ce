// Staggered, kinetic-energy-conserving finite volumes of second order, classical Runge-Kutta of fourth order.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "closures.h"
#include "field.h"
#include "projection.h"
#include "settings.h"
#include "slab.h"

namespace les {

/// d u / dt = P( - div (u u) + closure ) + nu lap u - drag u + f, u[i, j] and v[i, j] at the upper faces of cell i, j.
class Simulation {
  public:
    Simulation(const Settings& settings, const Slab& slab);

    void step();
    void write() { slab_.write(settings_.output, velocity_); }

    /// Mean kinetic energy [m^2/s^2]; the same bits on any number of ranks.
    double energy();

    /// Of all ranks: cells, outside the trained range, not finite, failed.
    std::vector<std::int64_t> counts() const;

  private:
    void find_rate(Field& velocity, Field& rate);
    void add_advection(const Field& velocity, Field& rate) const;
    void add_linear_terms(const Field& velocity, Field& rate) const;

    const Settings settings_;
    const Slab& slab_;
    const std::unique_ptr<Closure> closure_;
    Projection projection_;
    Field velocity_, stage_, force_;
    std::vector<Field> rates_;
};

}  // namespace les
