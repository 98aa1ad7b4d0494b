# Compiler options that every room shares: warnings are errors, hardening is on, ccache and a fast linker when present.
set(HULL_SANITIZE "" CACHE STRING "Sanitizers, as -fsanitize= takes them")
option(HULL_FUZZ "Build the fuzz targets (clang)" OFF)

find_program(HULL_CCACHE ccache)
if(HULL_CCACHE)
  # Paths relative to the source tree, so that two checkouts share the cache.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=1 ${HULL_CCACHE})
  set(CMAKE_C_COMPILER_LAUNCHER ${CMAKE_CXX_COMPILER_LAUNCHER})
endif()

if(CMAKE_BUILD_TYPE STREQUAL "Debug")
  add_compile_options(-O1 -g1)
else()
  add_compile_options(-O2 -ffunction-sections -fdata-sections)
  set(CMAKE_CXX_FLAGS_RELEASE "-DNDEBUG")
  set(CMAKE_C_FLAGS_RELEASE "-DNDEBUG")
  add_link_options(-Wl,--gc-sections -Wl,-O1)
  if(NOT HULL_SANITIZE)
    add_compile_options(-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
  endif()
endif()

add_compile_options(-Wall -Wextra -Werror -Wshadow -Wnon-virtual-dtor -Wold-style-cast -Wcast-qual -Wundef -Wvla
                    -Wno-missing-field-initializers -fstack-protector-strong -fno-plt)
add_compile_options($<$<COMPILE_LANGUAGE:C>:-Wno-old-style-cast> $<$<COMPILE_LANGUAGE:C>:-Wno-non-virtual-dtor>)
# libstdc++ 12's std::stable_sort calls what it marks as deprecated; only clang looks there.
add_compile_options($<$<COMPILE_LANG_AND_ID:CXX,Clang>:-Wno-deprecated-declarations>)
# -iquote, not -I: "sys/file.h" is ours, <sys/file.h> is the system's.
add_compile_options("SHELL:-iquote ${CMAKE_SOURCE_DIR}/src")
add_compile_definitions(_GNU_SOURCE _FILE_OFFSET_BITS=64)
add_link_options(-Wl,-z,relro -Wl,-z,now)

if(HULL_SANITIZE)
  add_compile_options(-fsanitize=${HULL_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  # g++ 12 takes std::optional members for uninitialised once the sanitizers have changed the code; clang does not know the option.
  add_compile_options($<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
  add_link_options(-fsanitize=${HULL_SANITIZE})
endif()
if(HULL_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()

# Programs on the hot path are linked statically: no dynamic loader, no relocation work.
if(HULL_SANITIZE)
  set(HULL_STATIC_LINK "")
else()
  set(HULL_STATIC_LINK -static)
endif()

find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
if(BUILD_TESTING)
  find_package(GTest REQUIRED)
  include(GoogleTest)
endif()
