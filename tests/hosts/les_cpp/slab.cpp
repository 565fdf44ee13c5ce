#include "slab.h"

#include <mpi.h>

#include <algorithm>
#include <fstream>
#include <numeric>
#include <stdexcept>

namespace les {

Slab::Slab(int nx, int ny) : nx(nx), ny(ny) {
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    if (nx % ranks || ny % ranks)
        throw std::invalid_argument("cells: " + std::to_string(ranks) + " ranks do not divide them");
    rows = nx / ranks;
    columns = ny / ranks;
    first_row = rank * rows;
}

void Slab::exchange(Field& field) const {
    const int ghosts = field.ghosts, count = ghosts * field.row_length();
    if (ghosts > rows)
        throw std::invalid_argument("cells: " + std::to_string(rows) + " rows of a rank are fewer than its ghost rows");
    const int below = (rank + ranks - 1) % ranks, above = (rank + 1) % ranks;
    for (int c = 0; c < field.components; ++c) {
        MPI_Sendrecv(field.row(c, rows - ghosts), count, MPI_DOUBLE, above, 0, field.row(c, -ghosts), count, MPI_DOUBLE,
                     below, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        MPI_Sendrecv(field.row(c, 0), count, MPI_DOUBLE, below, 1, field.row(c, rows), count, MPI_DOUBLE, above, 1,
                     MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        for (int i = -ghosts; i < rows + ghosts; ++i) {
            for (int j = 0; j < ghosts; ++j) {
                field(c, i, -1 - j) = field(c, i, ny - 1 - j);
                field(c, i, ny + j) = field(c, i, j);
            }
        }
    }
}

Line Slab::exchange_blocks(const Line& packed) const {
    Line received(packed.size());
    const int numbers = 2 * rows * columns;
    MPI_Alltoall(packed.data(), numbers, MPI_DOUBLE, received.data(), numbers, MPI_DOUBLE, MPI_COMM_WORLD);
    return received;
}

template <class Visit>
void Slab::for_each_of_block(const Visit& visit) const {
    std::size_t packed = 0;
    for (int other = 0; other < ranks; ++other)
        for (int j = 0; j < columns; ++j)
            for (int i = 0; i < rows; ++i)
                visit(packed++, other, i, j);
}

void Slab::transpose(const Line& by_rows, Line& by_columns) const {
    Line packed(by_rows.size());
    for_each_of_block([&](std::size_t at, int other, int i, int j) {
        packed[at] = by_rows[static_cast<std::size_t>(i) * ny + other * columns + j];
    });
    const Line received = exchange_blocks(packed);
    for_each_of_block([&](std::size_t at, int other, int i, int j) {
        by_columns[static_cast<std::size_t>(j) * nx + other * rows + i] = received[at];
    });
}

void Slab::transpose_back(const Line& by_columns, Line& by_rows) const {
    Line packed(by_columns.size());
    for_each_of_block([&](std::size_t at, int other, int i, int j) {
        packed[at] = by_columns[static_cast<std::size_t>(j) * nx + other * rows + i];
    });
    const Line received = exchange_blocks(packed);
    for_each_of_block([&](std::size_t at, int other, int i, int j) {
        by_rows[static_cast<std::size_t>(i) * ny + other * columns + j] = received[at];
    });
}

void Slab::read(const std::string& path, Field& field) const {
    std::ifstream file(path, std::ios::binary);
    for (int c = 0; c < field.components; ++c) {
        for (int i = 0; i < rows; ++i) {
            const auto first = (static_cast<std::int64_t>(c) * nx + first_row + i) * ny;
            file.seekg(first * static_cast<std::int64_t>(sizeof(double)));
            file.read(reinterpret_cast<char*>(&field(c, i, 0)), ny * static_cast<std::int64_t>(sizeof(double)));
        }
    }
    if (!file)
        throw std::runtime_error(path + ": is not there, or is shorter than the grid");
}

void Slab::write(const std::string& path, Field& field) const {
    std::vector<double> mine(static_cast<std::size_t>(rows) * ny), all(rank ? 0 : static_cast<std::size_t>(nx) * ny);
    std::ofstream file;
    if (rank == 0)
        file.open(path, std::ios::binary);
    for (int c = 0; c < field.components; ++c) {
        for (int i = 0; i < rows; ++i)
            std::copy_n(&field(c, i, 0), ny, &mine[static_cast<std::size_t>(i) * ny]);
        MPI_Gather(mine.data(), rows * ny, MPI_DOUBLE, all.data(), rows * ny, MPI_DOUBLE, 0, MPI_COMM_WORLD);
        file.write(reinterpret_cast<const char*>(all.data()), static_cast<std::int64_t>(all.size() * sizeof(double)));
    }
    file.close();
    if (rank == 0 && !file)
        throw std::runtime_error(path + ": cannot be written");
}

double Slab::sum_of_rows(const std::vector<double>& of_rows) const {
    std::vector<double> all(nx);
    MPI_Allgather(of_rows.data(), rows, MPI_DOUBLE, all.data(), rows, MPI_DOUBLE, MPI_COMM_WORLD);
    return std::accumulate(all.begin(), all.end(), 0.0);
}

std::vector<std::int64_t> Slab::sum(std::vector<std::int64_t> counts) const {
    MPI_Allreduce(MPI_IN_PLACE, counts.data(), static_cast<int>(counts.size()), MPI_INT64_T, MPI_SUM, MPI_COMM_WORLD);
    return counts;
}

}  // namespace les
