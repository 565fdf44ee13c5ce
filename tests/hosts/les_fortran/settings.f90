!> What a run is told: one "key value" a line.
module settings
    use, intrinsic :: iso_fortran_env, only: real64
    use world, only: fail
    implicit none
    private
    public :: run_settings, read_settings

    type :: run_settings
        integer :: nx = 0, ny = 0, num_steps = 0
        real(real64) :: length_x = 0, length_y = 0                 !< [m]
        real(real64) :: viscosity = 0, drag = 0, time_step = 0     !< [m^2/s] [1/s] [s]
        character(:), allocatable :: closure                       !< none, smagorinsky or artifact
        real(real64) :: constant = 0, filter_width = 0             !< C of Smagorinsky [-]; Delta, 0 if unknown [m]
        character(:), allocatable :: model                         !< the artifact
        character(:), allocatable :: velocity, force               !< raw doubles [m/s] [m/s^2]; the force is solenoidal
        character(:), allocatable :: output                        !< the last velocity
        real(real64) :: hx = 0, hy = 0                             !< spacing [m]
    end type run_settings

contains

    function read_settings(path) result(run)
        character(*), intent(in) :: path
        type(run_settings) :: run
        character(4096) :: line
        integer :: unit, status, blank

        open (newunit=unit, file=path, status='old', action='read', iostat=status)
        if (status /= 0) call fail(path//': cannot be read')
        do
            read (unit, '(a)', iostat=status) line
            if (status /= 0) exit
            blank = index(line, ' ')
            call set(run, line(:blank - 1), trim(adjustl(line(blank:))))
        end do
        close (unit)
        run%hx = run%length_x/run%nx
        run%hy = run%length_y/run%ny
    end function read_settings

    subroutine set(run, key, value)
        type(run_settings), intent(inout) :: run
        character(*), intent(in) :: key, value

        select case (key)
        case ('nx'); read (value, *) run%nx
        case ('ny'); read (value, *) run%ny
        case ('num_steps'); read (value, *) run%num_steps
        case ('length_x'); read (value, *) run%length_x
        case ('length_y'); read (value, *) run%length_y
        case ('viscosity'); read (value, *) run%viscosity
        case ('drag'); read (value, *) run%drag
        case ('time_step'); read (value, *) run%time_step
        case ('closure'); run%closure = value
        case ('constant'); read (value, *) run%constant
        case ('filter_width'); read (value, *) run%filter_width
        case ('model'); run%model = value
        case ('velocity'); run%velocity = value
        case ('force'); run%force = value
        case ('output'); run%output = value
        case default; call fail('settings: unknown key '//key)
        end select
    end subroutine set

end module settings
