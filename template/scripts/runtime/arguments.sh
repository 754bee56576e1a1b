# Parse the arguments of submit.sh, which sources this file.

usage() {
  cat << END
Usage: submit.sh LAUNCHER [CONFIG]... [KEY=VALUE...] [--name NAME] [--legs N] [--dry-run] [--live]
                 [--parsable] [-- SBATCH_OPTION...]
       submit.sh PLAIN_LAUNCHER... [--legs N] [--dry-run] [--live] [--parsable]
                 [-- [SBATCH_OPTION...] [-- ARGUMENT...]]
       submit.sh QUERY_LAUNCHER [--param KEY=JSON]... [--format FORMAT] [--overwrite] [--dry-run] [--live]
                 [-- SBATCH_OPTION...]
       submit.sh --again RUN [--name NAME] | --continue RUN | --failed CONFIG [--legs N] [--dry-run]
                 [--parsable] [-- SBATCH_OPTION...]
       submit.sh --prune

LAUNCHER       a launcher in $experiment/scripts, with or without .slurm
CONFIG         a configuration in $experiment/conf, required after a launcher without a number
KEY=VALUE      a Hydra override of the configuration
--name NAME    a name for the points of a grid with other overrides: they run in runs/CONFIG.NAME
--legs N       submit N jobs: each one continues the run if the job before it did not finish it
--dry-run      check everything without submitting
--live         run the files as they are when the job starts, not as they are now
--parsable     print only the numbers of the jobs, one a line
SBATCH_OPTION  an option of sbatch, like --time=1:00:00 or --array=0-7; it overrides the launcher's
ARGUMENT       an argument of the script that a launcher with -plain in its name runs
--again RUN    submit a recorded run from its start: its commit, launcher, overrides and options.
               RUN is a job, a task like 686_3, CONFIG/RUN, a receipt in slurm/submitted or the folder of a
               run. A finished point is computed again only with --name NAME
--continue RUN submit a leg that continues a run in its folder
--failed CONFIG
               submit each failed, lost or timed-out run of a configuration again
--prune        remove the pinned code that no job in the queue needs
END
}

# Set `request` (mode, live, parsable, query_option, name, legs, action, run, earlier), and the arrays `overrides`,
# `options` and `launchers`.
#
# An element of `launchers` is a label: a launcher in scripts/ without .slurm, or that and its configuration. The label
# is a key of `stems` (the launcher's name) and `configs` (its configuration, or empty if the launcher states it).
parse_arguments() { # WORD...
  declare -gA stems=() configs=()
  declare -gA request=([mode]=submit [live]='' [parsable]='' [query_option]='' [name]='' [legs]=1)
  request+=([action]='' [run]='' [earlier]='')
  declare -ga overrides=() options=() arguments=() launchers=()
  local stem config
  while (($#)); do
    case $1 in
      --help | -h)
        usage
        exit
        ;;
      --dry-run) request[mode]=check ;;
      --prune) request[mode]=prune ;;
      --again=* | --continue=* | --failed=*) choose_action "${1%%=*}" "${1#*=}" ;;
      --again | --continue | --failed)
        choose_action "$1" "${2-}"
        shift
        ;;
      --live) request[live]=yes ;;
      --parsable) request[parsable]=yes ;;
      --name=*) request[name]=$(check_name "${1#*=}") ;;
      --name)
        request[name]=$(check_name "${2-}")
        shift
        ;;
      --legs=*) request[legs]=$(check_legs "${1#*=}") ;;
      --legs)
        request[legs]=$(check_legs "${2-}")
        shift
        ;;
      --overwrite | --param=* | --format=*) overrides+=("$1") && request[query_option]=$1 ;;
      --param | --format)
        (($# > 1)) || die "$1 needs a value"
        overrides+=("$1" "$2") && request[query_option]=$1
        shift
        ;;
      --)
        split_options "${@:2}"
        break
        ;;
      -*) die "unknown option $1. See --help. Options of sbatch follow --" ;;
      *)
        if [[ $1 == @(\~*|*=*) && ! -f $1 ]]; then
          overrides+=("$1")
        else
          stem=$(find_launcher "$1") config=''
          if takes_config "$stem"; then
            config=$(find_config "$stem" "${2-}")
            shift
          fi
          add_launcher "$stem" "$config"
        fi
        ;;
    esac
    shift
  done
  if [[ ${request[mode]} == prune ]]; then
    ((!${#launchers[@]})) || die "--prune takes no launcher"
  elif [[ ${request[action]} ]]; then
    [[ ! ${launchers[*]-}${overrides[*]-}${arguments[*]-}${request[live]} ]] \
      || die "--${request[action]} takes launcher, overrides and code from the receipt." \
        "Give only --legs, and options of sbatch after --"
    [[ ! ${request[name]} || ${request[action]} == again ]] \
      || die "--${request[action]} takes --name from the receipt. Remove it"
  else
    ((${#launchers[@]})) || die "no launcher was given; expected some of: $(cd "$scripts" && echo *.slurm)"
    check_words
  fi
}

# Set `options` and `arguments` to the words before and after the second --
split_options() { # WORD...
  while (($#)) && [[ $1 != -- ]]; do
    options+=("$1")
    shift
  done
  arguments=("${@:2}")
}

# Refuse overrides of a plain script, and arguments of another one. Arguments of plain scripts become `overrides`.
check_words() {
  local launcher
  for launcher in "${launchers[@]}"; do
    if ! is_plain "$scripts/${stems[$launcher]}.slurm"; then
      ((!${#arguments[@]})) || die "$launcher takes no arguments after a second --. Write overrides as KEY=VALUE."
    elif ((${#overrides[@]})); then
      die "$launcher takes no overrides." \
        "Write the arguments of its script after a second --, like -- -- ${overrides[*]}"
    fi
  done
  overrides+=("${arguments[@]}")
}

# Return whether a launcher gives its words to the script as they are.
is_plain() { # FILE
  local text
  read_text "$1" text
  [[ $'\n'$text == *$'\nexport EXPERIMENT_MODE=plain'* ]]
}

# Record which runs to submit again or to continue.
choose_action() { # OPTION RUN
  [[ ! ${request[action]} ]] || die "--${request[action]} and $1 exclude each other, and each is given once"
  [[ $2 && $2 != -* ]] || die "$1 needs a run, or for --failed a configuration. See --help"
  request[action]=${1#--} request[run]=$2
}

# Print the launcher that a word names, without folder and .slurm.
find_launcher() { # WORD
  local -r name=${1##*/}
  require_folder "$1" "$scripts" launcher
  [[ -f $scripts/${name%.slurm}.slurm ]] \
    || die "the launcher $scripts/${name%.slurm}.slurm does not exist. Write overrides as KEY=VALUE."
  printf '%s\n' "${name%.slurm}"
}

# Refuse a path in another folder. It may be relative to the experiment's folder.
require_folder() { # WORD FOLDER KIND
  local directory=${1%/*}
  if [[ $1 != */* ]]; then return; fi
  [[ -e $directory ]] || directory=$folder/$directory
  [[ $directory -ef $2 ]] || die "$1 is not a $3 in $2"
}

takes_config() { # STEM
  local text
  read_text "$scripts/$1.slurm" text
  [[ $'\n'$text == *$'\nconfig='?'{1-}'* ]]
}

# Print the configuration that a word names, without folder and .yaml.
find_config() { # LAUNCHER WORD
  local name=${2##*/}
  name=${name%.yaml}
  if [[ ! $name || $2 == -* || $2 == *=* ]]; then
    die "$1 needs a configuration after it; expected one of: $(list_configs)"
  fi
  require_folder "$2" "$folder/conf" configuration
  [[ $name =~ ^[A-Za-z0-9_][A-Za-z0-9_.-]*$ ]] \
    || die "$1: a configuration's name has letters, digits, _, - and . only: $name"
  printf '%s\n' "$name"
}

# Print the name of a campaign with other overrides. It becomes part of the names of folders, figures and W&B groups.
check_name() { # NAME
  [[ $1 =~ ^[A-Za-z0-9][A-Za-z0-9_-]{0,49}$ ]] \
    || die "--name takes at most 50 letters, digits, _ and -, and begins with a letter or digit: $1"
  printf '%s\n' "$1"
}

# Print the number of legs of a chain.
check_legs() { # NUMBER
  [[ $1 =~ ^[1-9][0-9]?$ ]] || die "--legs takes a number from 1 to 99: $1"
  printf '%s\n' "$1"
}

list_configs() {
  (shopt -s nullglob && cd -- "$folder/conf" && printf '%s\n' !(runtime|default).yaml) \
    | sed 's/[.]yaml$//' | paste -sd, | sed 's/,/, /g'
}

add_launcher() { # STEM CONFIG
  local -r label=$1${2:+ $2}
  [[ ! ${stems[$label]-} ]] || die "$label is named twice. Name it once."
  stems[$label]=$1 configs[$label]=$2
  launchers+=("$label")
}

# Refuse options with which sbatch would not submit, or would move the job's log or working directory.
refuse_options() {
  local word name message
  for word in "${options[@]}"; do
    for name in test-only wait quiet output error chdir wrap parsable help usage version clusters uid gid; do
      # sbatch also accepts the beginning of an option's name.
      [[ $word != --???* || --$name != "${word%%=*}"* ]] || die "submit.sh does not support --$name. Leave $word out."
    done
    [[ ! $word =~ ^-[HIOksv]*[DMQVWeho] ]] || die "submit.sh does not support ${BASH_REMATCH[0]}. Leave $word out."
  done
  if ((!${#options[@]})); then return; fi
  # sbatch would submit the first word that is not an option in place of the launcher, so such a word is refused.
  # In the C locale, since the messages of getopt are translated.
  message=$(LC_ALL=C sbatch --test-only "${options[@]}" --end-of-options 2>&1 < /dev/null) || true
  case $message in
    *"unrecognized option '--end-of-options'"*) ;;
    *"option '"* | *"option -- "* | *[Ii]"nvalid "* | *"error: --"*) die "${message%$'\n'Try*}" ;;
    *"script is empty"*) die "the last option after -- lacks its value: ${options[*]}" ;;
    *) die "only options of sbatch may follow --, but not a script: ${options[*]}" ;;
  esac
}
