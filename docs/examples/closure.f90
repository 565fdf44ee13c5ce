! A closure in a program in Fortran: du/dt = closure(u) on one periodic staggered field, by Euler steps.
!
!     closure_fortran run/model.pt
program closure_fortran
    use, intrinsic :: iso_fortran_env, only: error_unit, real64
    use hpcsurrogate
    implicit none
    integer, parameter :: nx = 64, ny = 64, num_steps = 10
    real(real64), parameter :: pi = acos(-1.0_real64)
    real(real64) :: velocity(nx, ny, 2), acceleration(nx, ny, 2), time_step
    type(closure) :: learned
    type(closure_options) :: options
    type(closure_counts) :: counts
    character(len=1024) :: path
    integer :: status, step

    call get_command_argument(1, path)
    options%layout = 'staggered'    ! what this solver is: compared with what the artifact was trained for
    options%grid_spacing(:2) = 2*pi/[nx, ny]
    options%input_units = 'm/s'
    options%output_units = 'm/s^2'
    call learned%open(path, options, status)
    if (status /= HPCS_OK) call stop_with(last_error())

    call start_with_vortices()
    time_step = 0.01_real64
    do step = 1, num_steps
        call learned%apply(velocity, acceleration, status)    ! as they lie in memory
        if (status == HPCS_TOO_MUCH_FALLBACK) then
            time_step = time_step/2    ! the flow has left what the network knows: go slower
        else if (status /= HPCS_OK) then
            call stop_with(last_error())
        end if
        velocity = velocity + time_step*acceleration
    end do
    counts = learned%total_counts()
    print '(a, f0.12, 4(a, i0))', 'u ', velocity(6, 8, 1), ' cells ', counts%cells, ' outside ', counts%outside, &
        ' not finite ', counts%not_finite, ' failed ', counts%failed
    call learned%close()

contains

    subroutine start_with_vortices()
        integer :: i, j

        do j = 1, ny
            do i = 1, nx    ! u at (i h, (j-1/2) h), v at ((i-1/2) h, j h)
                velocity(i, j, 1) = sin(2*pi*i/nx)*cos(2*pi*(j - 0.5_real64)/ny)
                velocity(i, j, 2) = -cos(2*pi*(i - 0.5_real64)/nx)*sin(2*pi*j/ny)
            end do
        end do
    end subroutine start_with_vortices

    subroutine stop_with(message)
        character(*), intent(in) :: message

        write (error_unit, '(2a)') 'closure_fortran: ', message
        stop 1, quiet=.true.
    end subroutine stop_with

end program closure_fortran
