// What a run is told: one "key value" a line.
#pragma once

#include <string>

namespace les {

struct Settings {
    int nx, ny, num_steps;
    double length_x, length_y;          // [m]
    double viscosity, drag, time_step;  // [m^2/s] [1/s] [s]
    std::string closure;                // none, smagorinsky or artifact
    double constant, filter_width;      // C of Smagorinsky [-]; Delta, 0 if it is unknown [m]
    std::string model;                  // the artifact
    std::string velocity, force;        // raw doubles (2, nx, ny) at the faces [m/s] [m/s^2]; the force is solenoidal
    std::string output;                 // the last velocity

    double hx() const { return length_x / nx; }
    double hy() const { return length_y / ny; }
};

/// Throws std::runtime_error if a key is missing.
Settings read_settings(const std::string& path);

}  // namespace les
