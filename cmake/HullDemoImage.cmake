# The image that `hull run hull-demo` finds with an empty store and no network: an OCI layout made at build time from
# Debian's busybox-static, the same byte for byte each time.
find_program(HULL_BUSYBOX NAMES busybox PATHS /bin /usr/bin NO_DEFAULT_PATH)
find_program(HULL_PYTHON NAMES python3 PATHS /usr/bin NO_DEFAULT_PATH REQUIRED)
if(NOT HULL_BUSYBOX)
  message(FATAL_ERROR "busybox is missing: install busybox-static (scripts/setup does)")
endif()

set(HULL_DEMO_IMAGE ${CMAKE_BINARY_DIR}/share/hull/images/hull-demo)
file(GLOB demo_files CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/cmake/demo/*)
add_custom_command(
  OUTPUT ${HULL_DEMO_IMAGE}/index.json
  COMMAND ${HULL_PYTHON} ${CMAKE_SOURCE_DIR}/cmake/make_demo_image.py --busybox ${HULL_BUSYBOX}
          --files ${CMAKE_SOURCE_DIR}/cmake/demo --version ${PROJECT_VERSION} ${HULL_DEMO_IMAGE}
  DEPENDS ${CMAKE_SOURCE_DIR}/cmake/make_demo_image.py ${demo_files}
  COMMENT "Writing the demo image"
  VERBATIM)
add_custom_target(demo_image ALL DEPENDS ${HULL_DEMO_IMAGE}/index.json)
