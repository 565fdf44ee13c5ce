! A trained closure called through FTorch (https://github.com/Cambridge-ICCS/FTorch): the network alone, without the
! checks, the guard and the counters of the module `hpcsurrogate`.
!
!     ftorch_closure run/model.pt nx ny < velocity.bin > acceleration.bin
program ftorch_closure
    use, intrinsic :: iso_c_binding, only: c_int, c_int64_t, c_loc
    use, intrinsic :: iso_fortran_env, only: real32
    use ftorch, only: torch_model, torch_tensor, torch_model_load, torch_model_forward, torch_tensor_from_blob, &
                      torch_kCPU, torch_kFloat32, torch_delete
    implicit none
    integer(c_int), parameter :: layout(4) = [3, 4, 2, 1]   ! x runs fastest in memory, then y, component, batch
    real(real32), allocatable, target :: velocity(:, :, :), acceleration(:, :, :)
    type(torch_model) :: model
    type(torch_tensor) :: inputs(1), outputs(1)
    integer(c_int64_t) :: nx, ny
    character(len=1024) :: path, number

    call get_command_argument(1, path)
    call get_command_argument(2, number)
    read (number, *) nx
    call get_command_argument(3, number)
    read (number, *) ny
    allocate (velocity(nx, ny, 2), acceleration(nx, ny, 2))
    open (10, file='/dev/stdin', access='stream', form='unformatted', action='read')
    read (10) velocity

    ! The arrays of the host as they are, seen by the network as (batch, component, x, y): nothing is copied.
    call torch_model_load(model, trim(path), torch_kCPU)
    call torch_tensor_from_blob(inputs(1), c_loc(velocity), 4_c_int, [1_c_int64_t, 2_c_int64_t, nx, ny], layout, &
                                torch_kFloat32, torch_kCPU)
    call torch_tensor_from_blob(outputs(1), c_loc(acceleration), 4_c_int, [1_c_int64_t, 2_c_int64_t, nx, ny], layout, &
                                torch_kFloat32, torch_kCPU)
    call torch_model_forward(model, inputs, outputs)   ! at every right-hand side

    open (11, file='/dev/stdout', access='stream', form='unformatted', action='write')
    write (11) acceleration
    call torch_delete(inputs)
    call torch_delete(outputs)
    call torch_delete(model)
end program ftorch_closure
