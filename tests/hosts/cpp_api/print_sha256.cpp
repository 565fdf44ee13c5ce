// SHA-256 of the standard input.
#include <iostream>
#include <iterator>

#include "sha256.h"

int main() {
    const std::string content{std::istreambuf_iterator<char>(std::cin), {}};
    std::cout << hpcs::sha256(content) << "\n";
}
