!> A two-dimensional large-eddy simulation under MPI: mpirun -np 4 les_fortran settings.txt
!!
!! Prints the energy of every step and the cells that fell back to the classical closure, and writes the last velocity.
program les
    use, intrinsic :: iso_c_binding, only: c_int
    use, intrinsic :: iso_fortran_env, only: int64, real64
    use settings, only: read_settings, run_settings
    use simulations, only: new_simulation, simulation
    use slabs, only: new_slab
    use world, only: fail, world_finish, world_start
    implicit none
    character(4096) :: path
    type(run_settings) :: run
    type(simulation) :: flow
    integer(c_int) :: rank, ranks
    integer(int64) :: counts(4)
    real(real64) :: energy
    integer :: step

    call world_start(rank, ranks)
    if (command_argument_count() /= 1) call fail('usage: les_fortran SETTINGS')
    call get_command_argument(1, path)
    run = read_settings(trim(path))
    flow = new_simulation(run, new_slab(run%nx, run%ny, rank, ranks))
    do step = 1, run%num_steps
        call flow%step()
        energy = flow%energy()
        if (rank == 0) print '(a, 1x, i0, 1x, es24.17)', 'energy', step, energy
    end do
    call flow%write_velocity()
    counts = flow%counts()
    if (rank == 0) print '(a, 4(1x, i0))', 'counts', counts
    call world_finish()
end program les
