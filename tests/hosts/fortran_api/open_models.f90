! A solver that starts: open_models_fortran FILTER_WIDTH PATH... says of each model whether it has it, and goes on.
program open_models
    use hpcsurrogate
    implicit none
    type(closure) :: learned
    type(closure_options) :: options
    character(1000) :: argument
    integer :: i, status

    call get_command_argument(1, argument)
    read (argument, *) options%filter_width
    options%layout = 'staggered'
    options%input_units = 'm/s'
    do i = 2, command_argument_count()
        call get_command_argument(i, argument)
        call learned%open(argument, options, status)
        if (status == HPCS_OK) then
            print '(i0, 2a)', status, ' ', learned%fact('name')
        else
            print '(i0, 2a)', status, ' ', last_error()
        end if
        call learned%close()
    end do
    print '(a)', 'the solver lives'
end program
