/* The few calls of MPI that the Fortran solver makes, all in the world communicator. The MPI of Python's package index
 * comes without Fortran modules, and a C interface suits every MPI. */
#include <mpi.h>
#include <stdint.h>

void world_start(int *rank, int *ranks) {
    MPI_Init(NULL, NULL);
    MPI_Comm_rank(MPI_COMM_WORLD, rank);
    MPI_Comm_size(MPI_COMM_WORLD, ranks);
}

void world_finish(void) { MPI_Finalize(); }

void world_stop(int exit_code) { MPI_Abort(MPI_COMM_WORLD, exit_code); }

/* Send `count` numbers to one rank while receiving as many from another. */
void world_pass(const double *sent, int to, double *received, int from, int count) {
    MPI_Sendrecv(sent, count, MPI_DOUBLE, to, 0, received, count, MPI_DOUBLE, from, 0, MPI_COMM_WORLD,
                 MPI_STATUS_IGNORE);
}

/* Block number r of `sent` goes to rank r, `count` numbers each. */
void world_swap(const double *sent, double *received, int count) {
    MPI_Alltoall(sent, count, MPI_DOUBLE, received, count, MPI_DOUBLE, MPI_COMM_WORLD);
}

/* The numbers of all ranks, in order, on every rank. */
void world_gather(const double *mine, double *all, int count) {
    MPI_Allgather(mine, count, MPI_DOUBLE, all, count, MPI_DOUBLE, MPI_COMM_WORLD);
}

void world_sum(int64_t *values, int count) {
    MPI_Allreduce(MPI_IN_PLACE, values, count, MPI_INT64_T, MPI_SUM, MPI_COMM_WORLD);
}
