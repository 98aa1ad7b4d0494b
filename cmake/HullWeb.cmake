# The dashboard: web/ compiled by Vite into share/hull/web. Built in a copy, so that the source tree stays clean; npm ci
# installs exactly what web/package-lock.json names, with checksums. Without npm everything else is built.
find_program(HULL_NPM npm)
set(HULL_WEB ${CMAKE_BINARY_DIR}/share/hull/web)
if(HULL_NPM AND NOT HULL_FUZZ AND NOT HULL_SANITIZE)
  set(work ${CMAKE_BINARY_DIR}/web)
  set(source ${CMAKE_SOURCE_DIR}/web)
  file(GLOB_RECURSE web_sources CONFIGURE_DEPENDS ${source}/src/* ${source}/public/*)
  set(web_config ${source}/index.html ${source}/vite.config.ts ${source}/tsconfig.json)
  set(web_packages ${source}/package.json ${source}/package-lock.json ${source}/.npmrc)
  add_custom_command(OUTPUT ${work}/packages.stamp
    COMMAND ${CMAKE_COMMAND} -E make_directory ${work}
    COMMAND ${CMAKE_COMMAND} -E copy ${web_packages} ${work}
    COMMAND ${CMAKE_COMMAND} -E chdir ${work} ${HULL_NPM} ci --silent --ignore-scripts
    COMMAND ${CMAKE_COMMAND} -E touch ${work}/packages.stamp
    DEPENDS ${web_packages}
    COMMENT "Fetching what the dashboard is built with" VERBATIM)
  add_custom_command(OUTPUT ${HULL_WEB}/index.html
    COMMAND ${CMAKE_COMMAND} -E rm -rf ${work}/src ${work}/public
    COMMAND ${CMAKE_COMMAND} -E copy_directory ${source}/src ${work}/src
    COMMAND ${CMAKE_COMMAND} -E copy_directory ${source}/public ${work}/public
    COMMAND ${CMAKE_COMMAND} -E copy ${web_config} ${work}
    COMMAND ${CMAKE_COMMAND} -E chdir ${work} ${work}/node_modules/.bin/tsc --noEmit
    COMMAND ${CMAKE_COMMAND} -E chdir ${work} ${work}/node_modules/.bin/vite build --logLevel warn
            --outDir ${HULL_WEB} --emptyOutDir
    DEPENDS ${work}/packages.stamp ${web_sources} ${web_config}
    COMMENT "Building the dashboard" VERBATIM)
  add_custom_target(web ALL DEPENDS ${HULL_WEB}/index.html)
  install(DIRECTORY ${HULL_WEB} DESTINATION ${CMAKE_INSTALL_DATADIR}/hull)
elseif(NOT HULL_NPM)
  message(STATUS "npm is not installed: the dashboard is not built")
endif()
