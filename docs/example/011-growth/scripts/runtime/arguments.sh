# Parse the arguments of submit.sh, which sources this file.

usage() {
  cat << END
Usage: submit.sh LAUNCHER [CONFIG]... [KEY=VALUE...] [OPTION...]
                 [-- SBATCH_OPTION...]
       submit.sh PLAIN_LAUNCHER... [OPTION...]
                 [-- [SBATCH_OPTION...] [-- ARGUMENT...]]
       submit.sh QUERY_LAUNCHER [--param KEY=JSON]... [--format FORMAT]
                 [--overwrite] [OPTION...] [-- SBATCH_OPTION...]
       submit.sh --again RUN | --continue RUN | --failed CONFIG [OPTION...]
                 [-- SBATCH_OPTION...]
       submit.sh --prune

Check launchers, pin their code, and submit them as Slurm jobs.

LAUNCHER         a launcher in $experiment/scripts
CONFIG           a configuration in $experiment/conf;
                 only for a launcher without a number
KEY=VALUE        a Hydra override
SBATCH_OPTION    an sbatch option, such as --time=1:00:00 or --array=0-7; it
                 overrides that of the launcher
ARGUMENT         an argument for the script of a launcher with -plain in its
                 name
RUN              a job, a task such as 686_3, CONFIG/RUN, a receipt in
                 slurm/submitted, or a run folder

Options:
--dry-run        run all checks without submitting
--live           run the files as they are when the job starts, without pinning
--legs N         submit N jobs; each continues the run if the previous one did
                 not finish it
--name NAME      name for the points of a grid with overrides; their folders
                 are in runs/CONFIG.NAME
--parsable       print only job numbers, one per line
--again RUN      resubmit a recorded run from its start, with its commit,
                 launcher, overrides and options; a finished point of a grid
                 needs --name NAME
--continue RUN   submit a job that continues a run in its folder
--failed CONFIG  resubmit each failed, lost or timed-out run of a configuration
--prune          remove pinned code that no queued or running job needs

Examples:
  submit.sh LAUNCHER seed=7 -- --time=1:00:00
  submit.sh LAUNCHER --dry-run
END
}

# Set `request` (mode, live, parsable, query_option, name, legs, action, run, earlier), and the arrays `overrides`,
# `options` and `launchers`.
#
# Each element of `launchers` is a label: the name of a launcher without .slurm, and its configuration if it takes one.
# Labels are the keys of `stems` (names of launchers) and `configs` (configurations, or empty).
parse_arguments() { # WORD...
  declare -gA stems=() configs=()
  declare -gA request=([mode]=submit [live]='' [parsable]='' [query_option]='' [name]='' [legs]=1)
  request+=([action]='' [run]='' [earlier]='')
  declare -ga overrides=() options=() arguments=() launchers=()
  local taken # how many words a case reads
  while (($#)); do
    taken=1
    case $1 in
      --help | -h)
        usage
        exit
        ;;
      --dry-run) request[mode]=check ;;
      --prune) request[mode]=prune ;;
      --again=* | --continue=* | --failed=*) choose_action "${1%%=*}" "${1#*=}" ;;
      --again | --continue | --failed) choose_action "$1" "${2-}" && taken=2 ;;
      --live) request[live]=yes ;;
      --parsable) request[parsable]=yes ;;
      --name=*) request[name]=$(check_name "${1#*=}") ;;
      --name) request[name]=$(check_name "${2-}") taken=2 ;;
      --legs=*) request[legs]=$(check_legs "${1#*=}") ;;
      --legs) request[legs]=$(check_legs "${2-}") taken=2 ;;
      --overwrite | --param=* | --format=*) overrides+=("$1") request[query_option]=$1 ;;
      --param | --format)
        (($# > 1)) || die "$1 needs a value"
        overrides+=("$1" "$2") request[query_option]=$1 taken=2
        ;;
      --)
        split_options "${@:2}"
        break
        ;;
      -*) die "unknown option $1. See --help. Write sbatch options after --" ;;
      *) if [[ $1 == @(\~*|*=*) && ! -f $1 ]]; then overrides+=("$1"); else parse_launcher "$1" "${2-}"; fi ;;
    esac
    shift "$taken"
  done
  check_request
}

# Add the launcher that a word names. Set `taken` to 2 if the next word names its configuration.
parse_launcher() { # WORD NEXT
  local stem config=''
  stem=$(find_launcher "$1")
  if takes_config "$stem"; then config=$(find_config "$stem" "$2") taken=2; fi
  add_launcher "$stem" "$config"
}

# Refuse words that exclude each other, and a request without a launcher.
check_request() {
  if [[ ${request[mode]} == prune ]]; then
    ((!${#launchers[@]})) || die "--prune takes no launcher"
  elif [[ ${request[action]} ]]; then
    [[ ! ${launchers[*]-}${overrides[*]-}${arguments[*]-}${request[live]} ]] \
      || die "--${request[action]} takes the launcher, overrides and code from the receipt." \
        "Add only --legs, and sbatch options after --"
    [[ ! ${request[name]} || ${request[action]} == again ]] \
      || die "--${request[action]} takes --name from the receipt. Remove it."
  else
    ((${#launchers[@]})) || die "no launcher is given; expected some of: $(cd "$scripts" && echo *.slurm)"
    check_words
  fi
}

# Set `options` and `arguments` to the words before and after the second --.
split_options() { # WORD...
  while (($#)) && [[ $1 != -- ]]; do
    options+=("$1")
    shift
  done
  arguments=("${@:2}")
}

# Refuse overrides for plain scripts, and arguments for other scripts. Arguments of plain scripts become `overrides`.
check_words() {
  local launcher
  for launcher in "${launchers[@]}"; do
    if ! is_plain "$scripts/${stems[$launcher]}.slurm"; then
      ((!${#arguments[@]})) || die "$launcher takes no arguments after a second --. Write overrides as KEY=VALUE."
    elif ((${#overrides[@]})); then
      die "$launcher takes no overrides." \
        "Write the arguments of its script after a second --: -- -- ${overrides[*]}"
    fi
  done
  overrides+=("${arguments[@]}")
}

# Return whether a launcher passes its arguments to the script unchanged.
is_plain() { # FILE
  local text
  read_text "$1" text
  [[ $'\n'$text == *$'\nexport EXPERIMENT_MODE=plain'* ]]
}

# Record which runs to submit again or to continue.
choose_action() { # OPTION RUN
  [[ ! ${request[action]} ]] || die "--${request[action]} and $1 cannot be combined or repeated"
  [[ $2 && $2 != -* ]] || die "$1 needs $([[ $1 == --failed ]] && echo "a configuration" || echo "a run"). See --help"
  request[action]=${1#--} request[run]=$2
}

# Print the name of a launcher, given by name or path, without .slurm.
find_launcher() { # WORD
  local -r name=${1##*/}
  require_folder "$1" "$scripts" launcher
  [[ -f $scripts/${name%.slurm}.slurm ]] \
    || die "the launcher $scripts/${name%.slurm}.slurm does not exist. Write overrides as KEY=VALUE."
  printf '%s\n' "${name%.slurm}"
}

# Refuse a path outside a folder. It may be relative to the experiment.
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

# Print the name of a configuration, given by name or path, without .yaml.
find_config() { # LAUNCHER WORD
  local name=${2##*/}
  name=${name%.yaml}
  if [[ ! $name || $2 == -* || $2 == *=* ]]; then
    die "$1 needs a configuration; expected one of: $(list_configs)"
  fi
  require_folder "$2" "$folder/conf" configuration
  [[ $name =~ ^[A-Za-z0-9_][A-Za-z0-9_.-]*$ ]] \
    || die "$1: the name of a configuration can only contain letters, digits, _, - and dots: $name"
  printf '%s\n' "$name"
}

# Print the name for points with overrides. It becomes part of the names of folders, figures and W&B groups.
check_name() { # NAME
  [[ $1 =~ ^[A-Za-z0-9][A-Za-z0-9_-]{0,49}$ ]] \
    || die "--name must be at most 50 letters, digits, _ and -, and begin with a letter or digit: $1"
  printf '%s\n' "$1"
}

# Print the number of legs of a chain.
check_legs() { # NUMBER
  [[ $1 =~ ^[1-9][0-9]?$ ]] || die "--legs must be a number from 1 to 99: $1"
  printf '%s\n' "$1"
}

list_configs() {
  (shopt -s nullglob && cd -- "$folder/conf" && printf '%s\n' !(runtime|default).yaml) \
    | sed 's/[.]yaml$//' | paste -sd, | sed 's/,/, /g'
}

add_launcher() { # STEM CONFIG
  local -r label=$1${2:+ $2}
  [[ ! ${stems[$label]-} ]] || die "$label is given twice. Remove one."
  stems[$label]=$1 configs[$label]=$2
  launchers+=("$label")
}

# Refuse options that stop sbatch from submitting, or that change the log or working directory of a job.
refuse_options() {
  local word name message
  for word in "${options[@]}"; do
    for name in test-only wait quiet output error chdir wrap parsable help usage version clusters uid gid; do
      # sbatch accepts abbreviated options.
      [[ $word != --???* || --$name != "${word%%=*}"* ]] || die "submit.sh does not support --$name. Remove $word."
    done
    [[ ! $word =~ ^-[HIOksv]*[DMQVWeho] ]] || die "submit.sh does not support ${BASH_REMATCH[0]}. Remove $word."
  done
  if ((!${#options[@]})); then return; fi
  # Refuse words that are not options, because sbatch would submit the first of them in place of the launcher.
  # Use the C locale, because getopt translates its messages.
  message=$(LC_ALL=C sbatch --test-only "${options[@]}" --end-of-options 2>&1 < /dev/null) || true
  case $message in
    *"unrecognized option '--end-of-options'"*) ;;
    *"option '"* | *"option -- "* | *[Ii]"nvalid "* | *"error: --"*) die "${message%$'\n'Try*}" ;;
    *"script is empty"*) die "the last option after -- needs a value: ${options[*]}" ;;
    *) die "only sbatch options can follow --, not a script: ${options[*]}" ;;
  esac
}
