!> The calls of mpi_world.c, and the end of a run that met an error.
module world
    use, intrinsic :: iso_c_binding, only: c_double, c_double_complex, c_int, c_int64_t
    use, intrinsic :: iso_fortran_env, only: error_unit
    implicit none
    private
    public :: world_start, world_finish, world_pass, world_swap, world_gather, world_sum, fail

    interface
        subroutine world_start(rank, ranks) bind(c)
            import :: c_int
            integer(c_int), intent(out) :: rank, ranks
        end subroutine world_start

        subroutine world_finish() bind(c)
        end subroutine world_finish

        subroutine world_stop(exit_code) bind(c)
            import :: c_int
            integer(c_int), value :: exit_code
        end subroutine world_stop

        subroutine world_pass(sent, to, received, from, count) bind(c)
            import :: c_double, c_int
            real(c_double), intent(in) :: sent(*)
            real(c_double), intent(inout) :: received(*)
            integer(c_int), value :: to, from, count
        end subroutine world_pass

        !> `count` is in doubles, two for each complex number.
        subroutine world_swap(sent, received, count) bind(c)
            import :: c_double_complex, c_int
            complex(c_double_complex), intent(in) :: sent(*)
            complex(c_double_complex), intent(inout) :: received(*)
            integer(c_int), value :: count
        end subroutine world_swap

        subroutine world_gather(mine, all, count) bind(c)
            import :: c_double, c_int
            real(c_double), intent(in) :: mine(*)
            real(c_double), intent(inout) :: all(*)
            integer(c_int), value :: count
        end subroutine world_gather

        subroutine world_sum(values, count) bind(c)
            import :: c_int, c_int64_t
            integer(c_int64_t), intent(inout) :: values(*)
            integer(c_int), value :: count
        end subroutine world_sum
    end interface

contains

    !> Say what went wrong and end all ranks.
    subroutine fail(message)
        character(*), intent(in) :: message

        write (error_unit, '(2a)') 'les: error: ', message
        call world_stop(2_c_int)
        error stop 2
    end subroutine fail

end module world
