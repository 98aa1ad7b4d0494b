# `cmake --install` and the .deb: programs, completions, man pages, a default hull.toml and the demo image.
# Programs find each other relative to their own place: <prefix>/bin/hull, <prefix>/libexec/hull/hull-monitor.
set(HULL_BIN_PROGRAMS hull hulld hull-oci hull-oci-vm)
set(HULL_LIBEXEC_PROGRAMS hull-monitor hull-vmm hull-images hull-systemd-cgroup hull-compose hull-kernel hull-guest hull-dns hull-rootless)
set(programs)
foreach(program ${HULL_BIN_PROGRAMS} ${HULL_LIBEXEC_PROGRAMS})
  if(TARGET ${program})
    list(APPEND programs ${program})
  endif()
endforeach()
add_custom_target(programs DEPENDS ${programs})

if(TARGET hull AND TARGET hull-images)
  install(TARGETS ${HULL_BIN_PROGRAMS} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  install(TARGETS ${HULL_LIBEXEC_PROGRAMS} RUNTIME DESTINATION ${CMAKE_INSTALL_LIBEXECDIR}/hull)
  install(DIRECTORY ${HULL_DEMO_IMAGE} DESTINATION ${CMAKE_INSTALL_DATADIR}/hull/images)
  # Not below the prefix: /etc/hull is where Hull looks.
  install(FILES ${CMAKE_SOURCE_DIR}/docs/hull.toml DESTINATION /etc/hull)

  install(FILES ${CMAKE_SOURCE_DIR}/docs/systemd/hull.service DESTINATION lib/systemd/system)

  # The flag table of the command line writes its own completions and man pages.
  set(generated ${CMAKE_BINARY_DIR}/share)
  set(bash_completion ${generated}/bash-completion/completions/hull)
  set(zsh_completion ${generated}/zsh/site-functions/_hull)
  set(fish_completion ${generated}/fish/vendor_completions.d/hull.fish)
  foreach(pair bash:${bash_completion} zsh:${zsh_completion} fish:${fish_completion})
    string(REGEX REPLACE ":.*" "" shell ${pair})
    string(REGEX REPLACE "^[a-z]*:" "" file ${pair})
    get_filename_component(parent ${file} DIRECTORY)
    add_custom_command(OUTPUT ${file}
      COMMAND ${CMAKE_COMMAND} -E make_directory ${parent}
      COMMAND hull internal completion ${shell} > ${file}
      DEPENDS hull VERBATIM)
  endforeach()
  add_custom_command(OUTPUT ${generated}/man/stamp
    COMMAND ${CMAKE_COMMAND} -E rm -rf ${generated}/man
    COMMAND ${CMAKE_COMMAND} -E make_directory ${generated}/man/man1
    COMMAND hull internal man ${generated}/man/man1
    COMMAND ${CMAKE_COMMAND} -E touch ${generated}/man/stamp
    DEPENDS hull VERBATIM)
  add_custom_target(manual ALL DEPENDS ${bash_completion} ${zsh_completion} ${fish_completion} ${generated}/man/stamp)
  install(FILES ${bash_completion} DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
  install(FILES ${zsh_completion} DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
  install(FILES ${fish_completion} DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
  install(FILES ${CMAKE_SOURCE_DIR}/docs/man/hull.toml.5 DESTINATION ${CMAKE_INSTALL_MANDIR}/man5)
  install(FILES ${CMAKE_SOURCE_DIR}/docs/man/hull-oci.8 ${CMAKE_SOURCE_DIR}/docs/man/hull-monitor.8
    ${CMAKE_SOURCE_DIR}/docs/man/hull-vmm.8 ${CMAKE_SOURCE_DIR}/docs/man/hull-oci-vm.8
    ${CMAKE_SOURCE_DIR}/docs/man/hulld.8
    DESTINATION ${CMAKE_INSTALL_MANDIR}/man8)
  configure_file(${CMAKE_SOURCE_DIR}/docs/systemd/hulld.service.in ${CMAKE_BINARY_DIR}/hulld.service @ONLY)
  install(FILES ${CMAKE_SOURCE_DIR}/docs/systemd/hulld.socket ${CMAKE_BINARY_DIR}/hulld.service
    DESTINATION lib/systemd/system)
  install(DIRECTORY ${generated}/man/man1 DESTINATION ${CMAKE_INSTALL_MANDIR} FILES_MATCHING PATTERN "*.1")
endif()

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME hull)
set(CPACK_PACKAGE_CONTACT "The Hull developers <hull@localhost>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "workload engine that runs an OCI image as a container")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SECTION admin)
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS "uidmap, passt")  # for ordinary users
# hull.toml is the administrator's: dpkg keeps changes to it.
file(WRITE ${CMAKE_BINARY_DIR}/conffiles "/etc/hull/hull.toml\n")
# hull.service is enabled as Debian's services are; an administrator's decision stays.
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA ${CMAKE_BINARY_DIR}/conffiles ${CMAKE_SOURCE_DIR}/cmake/deb/postinst
  ${CMAKE_SOURCE_DIR}/cmake/deb/prerm)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
include(CPack)
