// A closure in a program in C++: du/dt = closure(u) on one periodic staggered field, by Euler steps.
//
//     closure_cpp run/model.pt
#include <cmath>
#include <cstdio>
#include <iostream>
#include <vector>

#include "hpcsurrogate.hpp"

namespace {

constexpr int NX = 64, NY = 64, NUM_STEPS = 10;
constexpr double PI = 3.141592653589793;

hpcsurrogate::Options this_solver() {
    hpcsurrogate::Options options;
    options.layout = "staggered";  // compared with what the artifact was trained for
    options.grid_spacing[0] = 2 * PI / NX;
    options.grid_spacing[1] = 2 * PI / NY;
    options.input_units = "m/s";
    options.output_units = "m/s^2";
    return options;
}

std::vector<double> vortices() {
    std::vector<double> velocity(2 * NX * NY);  // (component, x, y)
    for (int i = 0; i < NX; ++i)
        for (int j = 0; j < NY; ++j) {  // u at ((i+1) h, (j+1/2) h), v at ((i+1/2) h, (j+1) h)
            velocity[i * NY + j] = std::sin(2 * PI * (i + 1) / NX) * std::cos(2 * PI * (j + 0.5) / NY);
            velocity[(NX + i) * NY + j] = -std::cos(2 * PI * (i + 0.5) / NX) * std::sin(2 * PI * (j + 1) / NY);
        }
    return velocity;
}

void run(const char* path) {
    hpcsurrogate::Closure closure(path, this_solver());
    std::vector<double> velocity = vortices(), acceleration(velocity.size());
    double time_step = 0.01;
    for (int step = 0; step < NUM_STEPS; ++step) {
        try {
            closure.apply({velocity.data(), {1, 2, NX, NY}}, {acceleration.data(), {1, 2, NX, NY}});
        } catch (const hpcsurrogate::RecoverableError& error) {
            if (error.status() != HPCS_TOO_MUCH_FALLBACK)
                throw;
            time_step /= 2;  // the flow has left what the network knows: go slower
        }
        for (std::size_t i = 0; i < velocity.size(); ++i)
            velocity[i] += time_step * acceleration[i];
    }
    const hpcsurrogate::Counts counts = closure.total_counts();
    std::printf("u %.12f cells %lld outside %lld not finite %lld failed %lld\n", velocity[5 * NY + 7],
                static_cast<long long>(counts.cells), static_cast<long long>(counts.outside),
                static_cast<long long>(counts.not_finite), static_cast<long long>(counts.failed));
}

}  // namespace

int main(int argc, char** argv) try {
    if (argc != 2)
        return 1;
    run(argv[1]);
} catch (const hpcsurrogate::Error& error) {
    std::cerr << "closure_cpp: " << error.what() << '\n';
    return 1;
}
