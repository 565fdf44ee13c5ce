// What stands for the scales that the grid does not resolve.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "field.h"
#include "settings.h"
#include "slab.h"

namespace les {

class Closure {
  public:
    virtual ~Closure() = default;

    /// Ghost cells of the velocity that `acceleration` needs.
    virtual int ghosts() const { return 1; }

    /// Write the acceleration [m/s^2] at the velocity's points; the velocity's ghost cells are filled.
    virtual void acceleration(Field& velocity, Field& result) = 0;

    /// Of this rank so far: cells, and how many fell back: outside the trained range, not finite, failed.
    virtual std::array<std::int64_t, 4> counts() const { return {}; }
};

/// The closure that the settings name. Throws std::invalid_argument or hpcsurrogate::FatalError.
std::unique_ptr<Closure> make_closure(const Settings& settings, const Slab& slab);

}  // namespace les
