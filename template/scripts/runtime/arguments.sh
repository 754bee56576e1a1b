# Parse the arguments of submit.sh, which sources this file.

usage() {
  cat << END
Usage: submit.sh LAUNCHER... [KEY=VALUE...] [--dry-run] [--live] [--parsable] [-- SBATCH_OPTION...]
       submit.sh QUERY_LAUNCHER [--param KEY=JSON]... [--overwrite] [--dry-run] [--live] [-- SBATCH_OPTION...]
       submit.sh --prune

LAUNCHER       a launcher in $experiment/scripts, with or without .slurm
KEY=VALUE      a Hydra override of the configuration
--dry-run      check everything without submitting
--live         run the files as they are when the job starts, not as they are now
--parsable     print only the numbers of the jobs, one a line
SBATCH_OPTION  an option of sbatch, like --time=1:00:00 or --array=0-7; it overrides the launcher's
--prune        remove pinned code that is no longer needed by any job
END
}

# Set `request` (mode, live, parsable, query_option), and the arrays `names`, `overrides` and `options`.
parse_arguments() { # WORD...
  declare -gA request=([mode]=submit [live]='' [parsable]='' [query_option]='')
  declare -ga names=() overrides=() options=()
  while (($#)); do
    case $1 in
      --help | -h)
        usage
        exit
        ;;
      --dry-run) request[mode]=check ;;
      --prune) request[mode]=prune ;;
      --live) request[live]=yes ;;
      --parsable) request[parsable]=yes ;;
      --overwrite | --param=*) overrides+=("$1") && request[query_option]=$1 ;;
      --param)
        (($# > 1)) || die "--param needs KEY=JSON"
        overrides+=("$1" "$2") && request[query_option]=$1
        shift
        ;;
      --)
        options=("${@:2}")
        break
        ;;
      -*) die "unknown option $1. See --help. Options of sbatch follow --" ;;
      \~* | *=*) if [[ -f $1 ]]; then names+=("$1"); else overrides+=("$1"); fi ;;
      *) names+=("$1") ;;
    esac
    shift
  done
  if [[ ${request[mode]} == prune ]]; then
    ((!${#names[@]})) || die "--prune takes no launcher"
  else
    ((${#names[@]})) || die "no launcher was given; expected some of: $(cd "$scripts" && echo *.slurm)"
  fi
}

# Refuse options with which sbatch would not submit, or would move the job's log or working directory.
refuse_options() {
  local word name message
  for word in "${options[@]}"; do
    for name in test-only wait quiet output error chdir wrap parsable help usage version clusters; do
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

# Set the array `launchers` to the names of the files in scripts/, without .slurm.
find_launchers() {
  local name directory launcher
  launchers=()
  for name in "${names[@]}"; do
    launcher=${name##*/}
    launcher=${launcher%.slurm}
    if [[ $name == */* ]]; then
      directory=${name%/*}
      [[ -e $directory ]] || directory=$folder/$directory # the path may be relative to the experiment's folder
      [[ $directory -ef $scripts ]] || die "$name is not a launcher in $scripts"
    fi
    [[ -f $scripts/$launcher.slurm ]] || die "there is no launcher $scripts/$launcher.slurm. Write overrides as KEY=VALUE."
    [[ " ${launchers[*]-} " != *" $launcher "* ]] || die "$launcher is named twice. Name it once."
    launchers+=("$launcher")
  done
}
