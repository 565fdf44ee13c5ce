// A two-dimensional large-eddy simulation under MPI: mpirun -np 4 les settings.txt
//
// Prints the energy of every step and the cells that fell back to the classical closure, and writes the last velocity.

#include <mpi.h>

#include <exception>
#include <iostream>
#include <limits>
#include <stdexcept>

#include "settings.h"
#include "simulation.h"
#include "slab.h"

namespace {

void run(const char* settings_path) {
    const les::Settings settings = les::read_settings(settings_path);
    const les::Slab slab(settings.nx, settings.ny);
    les::Simulation simulation(settings, slab);
    std::cout.precision(std::numeric_limits<double>::max_digits10);
    for (int step = 1; step <= settings.num_steps; ++step) {
        simulation.step();
        const double energy = simulation.energy();
        if (slab.rank == 0)
            std::cout << "energy " << step << ' ' << energy << '\n';
    }
    simulation.write();
    const auto counts = simulation.counts();
    if (slab.rank == 0)
        std::cout << "counts " << counts[0] << ' ' << counts[1] << ' ' << counts[2] << ' ' << counts[3] << '\n';
}

}  // namespace

int main(int argc, char** argv) {
    MPI_Init(&argc, &argv);
    try {
        if (argc != 2)
            throw std::invalid_argument("usage: les SETTINGS");
        run(argv[1]);
    } catch (const std::exception& error) {
        std::cerr << "les: error: " << error.what() << '\n';
        MPI_Abort(MPI_COMM_WORLD, 2);
    }
    MPI_Finalize();
}
