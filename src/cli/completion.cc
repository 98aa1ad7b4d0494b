// The completion scripts. Each calls `hull internal complete -- WORD...` and obeys its two directives.
#include "base/error_format.h"
#include "cli/command.h"

namespace hull::cli {
namespace {

constexpr std::string_view kBash = R"SCRIPT(# bash completion for hull; made by 'hull completion bash'
_hull() {
    local cur words cword line candidate
    COMPREPLY=()
    if declare -F _get_comp_words_by_ref >/dev/null; then
        _get_comp_words_by_ref -n "=:" cur words cword
    else
        words=("${COMP_WORDS[@]}"); cword=$COMP_CWORD; cur=${words[cword]}
    fi
    local hull=${words[0]}
    while IFS= read -r line; do
        case $line in
            :file) compopt -o filenames 2>/dev/null; COMPREPLY+=($(compgen -f -- "$cur")) ;;
            :folder) compopt -o filenames 2>/dev/null; COMPREPLY+=($(compgen -d -- "$cur")) ;;
            *) candidate=${line%%$'\t'*}; COMPREPLY+=("$candidate") ;;
        esac
    done < <("$hull" internal complete -- "${words[@]:1:cword}" 2>/dev/null)
    if declare -F __ltrim_colon_completions >/dev/null; then
        __ltrim_colon_completions "$cur"
    fi
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace 2>/dev/null
    return 0
}
complete -F _hull hull
)SCRIPT";

constexpr std::string_view kZsh = R"SCRIPT(#compdef hull
# zsh completion for hull; made by 'hull completion zsh'
_hull() {
    local line candidate description
    local -a candidates
    while IFS= read -r line; do
        case $line in
            :file) _files ;;
            :folder) _files -/ ;;
            *)
                candidate=${line%%$'\t'*}
                description=
                [[ $line == *$'\t'* ]] && description=${line#*$'\t'}
                candidates+=("${candidate//:/\\:}${description:+:$description}")
                ;;
        esac
    done < <("${words[1]}" internal complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)
    (( ${#candidates} )) && _describe -V 'hull' candidates
}
if [ "$funcstack[1]" = "_hull" ]; then
    _hull "$@"
else
    compdef _hull hull
fi
)SCRIPT";

constexpr std::string_view kFish = R"SCRIPT(# fish completion for hull; made by 'hull completion fish'
function __hull_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l program $words[1]
    set -e words[1]
    for line in ($program internal complete -- $words "$current" 2>/dev/null)
        switch $line
            case ':file'
                __fish_complete_path "$current"
            case ':folder'
                __fish_complete_directories "$current"
            case '*'
                echo $line
        end
    end
end
complete -c hull -f -a '(__hull_complete)'
)SCRIPT";

}  // namespace

Result<std::string> completion_script(std::string_view shell) {
  if (shell == "bash") return std::string(kBash);
  if (shell == "zsh") return std::string(kZsh);
  if (shell == "fish") return std::string(kFish);
  return errorf(ErrorKind::kInvalid, "there is no completion for '{:.40}' (bash, zsh, fish)", shell);
}

}  // namespace hull::cli
