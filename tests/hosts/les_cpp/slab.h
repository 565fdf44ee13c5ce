// The domain cut along x: every rank holds the same number of rows, whole along y.
#pragma once

#include <complex>
#include <cstdint>
#include <string>
#include <vector>

#include "field.h"

namespace les {

using Line = std::vector<std::complex<double>>;

class Slab {
  public:
    /// Throws std::invalid_argument unless the number of ranks divides both numbers of cells.
    Slab(int nx, int ny);

    /// Fill the ghost cells: across x from the neighbours' cells, across y periodically.
    void exchange(Field& field) const;

    /// (rows, ny) of every rank to (columns, nx), so that each rank has its lines along x whole; and back.
    void transpose(const Line& by_rows, Line& by_columns) const;
    void transpose_back(const Line& by_columns, Line& by_rows) const;

    /// Read this rank's rows of a raw file of doubles (components, nx, ny), and write such a file from all ranks.
    void read(const std::string& path, Field& field) const;
    void write(const std::string& path, Field& field) const;

    /// Sums over all ranks. That of doubles takes one number of each row and has the same bits on any number of ranks.
    double sum_of_rows(const std::vector<double>& of_rows) const;
    std::vector<std::int64_t> sum(std::vector<std::int64_t> counts) const;

    int nx, ny, rank, ranks, rows, columns, first_row;

  private:
    Line exchange_blocks(const Line& packed) const;
    template <class Visit>
    void for_each_of_block(const Visit& visit) const;  // visit(place, rank, row, column) of what each two ranks swap
};

}  // namespace les
