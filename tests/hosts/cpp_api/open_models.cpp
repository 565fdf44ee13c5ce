// A solver that starts: open_models FILTER_WIDTH PATH... says of each model whether it has it, and goes on.
#include <cstdlib>
#include <iostream>

#include "hpcsurrogate.hpp"

int main(int num_arguments, char** arguments) {
    hpcsurrogate::Options options;
    options.filter_width = std::atof(arguments[1]);
    options.layout = "staggered";
    options.input_units = "m/s";
    for (int i = 2; i < num_arguments; ++i) {
        try {
            const hpcsurrogate::Closure closure(arguments[i], options);
            std::cout << "0 " << closure.fact("name").value_or("?") << "\n";
        } catch (const hpcsurrogate::FatalError& error) {
            std::cout << error.status() << " " << error.what() << "\n";
        }
    }
    std::cout << "the solver lives" << std::endl;
}
