# find_package(hpcsurrogate): the library that loads and calls exported closures, built from the sources beside this
# file as a part of the host's own build, so that compiler and LibTorch are the host's.
#
#     cmake -DCMAKE_PREFIX_PATH="$(hpcsurrogate cmake-dir)" ...
#
#   hpcsurrogate::hpcsurrogate   shared library with the C header hpcsurrogate.h
#   hpcsurrogate::cpp            the C++ header hpcsurrogate.hpp over it
#   hpcsurrogate::fortran        the Fortran module hpcsurrogate, if Fortran is among the project's languages
#
# -Dhpcsurrogate_LIBRARY=.../libhpcsurrogate.so takes a library that was built before instead of building it.

if(TARGET hpcsurrogate::hpcsurrogate)
    return()
endif()
cmake_minimum_required(VERSION 3.18)

function(_hpcsurrogate_find_torch)
    # Not through TorchConfig.cmake: that of a CUDA wheel wants a CUDA toolkit, which only compiling for a GPU needs.
    find_path(hpcsurrogate_TORCH_INCLUDE torch/csrc/jit/api/module.h PATH_SUFFIXES ../../include include)
    if(NOT hpcsurrogate_TORCH_INCLUDE)
        message(FATAL_ERROR "hpcsurrogate: no LibTorch in CMAKE_PREFIX_PATH; configure with "
                            "-DCMAKE_PREFIX_PATH=\"$(hpcsurrogate cmake-dir)\"")
    endif()
    get_filename_component(torch_lib "${hpcsurrogate_TORCH_INCLUDE}/../lib" REALPATH)
    set(libraries)
    foreach(name IN ITEMS torch c10 torch_cpu torch_cuda c10_cuda)
        if(EXISTS "${torch_lib}/lib${name}.so")
            list(APPEND libraries "${torch_lib}/lib${name}.so")
        endif()
    endforeach()
    # Nothing names a symbol of the CUDA part; it announces itself when it is loaded.
    # One flag, in quotes for spaces: of libraries by themselves CMake warns that libgomp.so.1 is beside them as well.
    list(JOIN libraries "','" libraries)
    set(hpcsurrogate_torch_link "-Wl,--push-state,--no-as-needed,'${libraries}',--pop-state" PARENT_SCOPE)
    set(hpcsurrogate_torch_lib "${torch_lib}" PARENT_SCOPE)
    # Wheels before torch 2.6 use the old strings of libstdc++; only this library has to, its interface is C.
    set(abi)
    set(torch_config "${torch_lib}/../share/cmake/Torch/TorchConfig.cmake")
    if(EXISTS "${torch_config}")
        file(STRINGS "${torch_config}" lines REGEX "_GLIBCXX_USE_CXX11_ABI=[01]")
        string(REGEX MATCH "_GLIBCXX_USE_CXX11_ABI=[01]" abi "${lines}")
    endif()
    set(hpcsurrogate_torch_abi "${abi}" PARENT_SCOPE)
endfunction()

function(_hpcsurrogate_build source_dir)
    get_property(languages GLOBAL PROPERTY ENABLED_LANGUAGES)
    if(NOT "CXX" IN_LIST languages)
        message(FATAL_ERROR "hpcsurrogate: is written in C++; add CXX to the languages of project()")
    endif()
    find_package(OpenMP REQUIRED COMPONENTS CXX)
    _hpcsurrogate_find_torch()
    # The list of allowed operators, as a part of the library.
    set(generated "${CMAKE_CURRENT_BINARY_DIR}/hpcsurrogate")
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${source_dir}/operators.txt")
    file(READ "${source_dir}/operators.txt" operators)
    file(CONFIGURE OUTPUT "${generated}/operators.h" @ONLY CONTENT
"#pragma once
#include <string_view>
namespace hpcs {
inline constexpr std::string_view OPERATORS_TXT = R\"OPERATORS(@operators@)OPERATORS\";
}
")
    file(GLOB sources CONFIGURE_DEPENDS "${source_dir}/src/*.cpp")
    add_library(hpcsurrogate SHARED ${sources})
    add_library(hpcsurrogate::hpcsurrogate ALIAS hpcsurrogate)
    target_compile_features(hpcsurrogate PRIVATE cxx_std_20)
    target_compile_definitions(hpcsurrogate PRIVATE ${hpcsurrogate_torch_abi})
    target_compile_options(hpcsurrogate PRIVATE -Wall -Wextra $<$<CONFIG:>:-O2>)
    target_include_directories(hpcsurrogate PUBLIC "${source_dir}/include" PRIVATE "${generated}")
    target_include_directories(hpcsurrogate SYSTEM PRIVATE "${hpcsurrogate_TORCH_INCLUDE}")
    target_link_libraries(hpcsurrogate PRIVATE ${hpcsurrogate_torch_link} OpenMP::OpenMP_CXX)
    set_target_properties(hpcsurrogate PROPERTIES CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON
        BUILD_RPATH "${hpcsurrogate_torch_lib}" INSTALL_RPATH "${hpcsurrogate_torch_lib}")
endfunction()

function(_hpcsurrogate_fortran source_dir)
    get_property(languages GLOBAL PROPERTY ENABLED_LANGUAGES)
    if("Fortran" IN_LIST languages)
        set(modules "${CMAKE_CURRENT_BINARY_DIR}/hpcsurrogate/fortran")
        add_library(hpcsurrogate_fortran STATIC "${source_dir}/fortran/hpcsurrogate.f90")
        add_library(hpcsurrogate::fortran ALIAS hpcsurrogate_fortran)
        set_target_properties(hpcsurrogate_fortran PROPERTIES Fortran_MODULE_DIRECTORY "${modules}"
            POSITION_INDEPENDENT_CODE ON)
        target_include_directories(hpcsurrogate_fortran INTERFACE "${modules}")
        target_link_libraries(hpcsurrogate_fortran PUBLIC hpcsurrogate::hpcsurrogate)
    endif()
endfunction()

if(hpcsurrogate_LIBRARY)
    add_library(hpcsurrogate::hpcsurrogate SHARED IMPORTED GLOBAL)
    set_target_properties(hpcsurrogate::hpcsurrogate PROPERTIES IMPORTED_LOCATION "${hpcsurrogate_LIBRARY}"
        IMPORTED_NO_SONAME ON INTERFACE_INCLUDE_DIRECTORIES "${CMAKE_CURRENT_LIST_DIR}/include")
else()
    _hpcsurrogate_build("${CMAKE_CURRENT_LIST_DIR}")
endif()

add_library(hpcsurrogate_cpp INTERFACE)
add_library(hpcsurrogate::cpp ALIAS hpcsurrogate_cpp)
target_link_libraries(hpcsurrogate_cpp INTERFACE hpcsurrogate::hpcsurrogate)
target_compile_features(hpcsurrogate_cpp INTERFACE cxx_std_17)
_hpcsurrogate_fortran("${CMAKE_CURRENT_LIST_DIR}")
