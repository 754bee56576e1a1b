# What submit.sh is asked for. Sourced by submit.sh.

usage() {
  cat << END
Usage: submit.sh LAUNCHER... [KEY=VALUE...] [--dry-run] [--live] [-- SBATCH_OPTION...]
       submit.sh QUERY_LAUNCHER [--param KEY=JSON]... [--overwrite] [--dry-run] [--live] [-- SBATCH_OPTION...]
       submit.sh --prune

LAUNCHER       a launcher in $experiment/scripts, with or without .slurm
KEY=VALUE      overrides of the configuration, as Hydra takes them
--dry-run      check everything, and submit nothing
--live         run the files as they are when the job starts, not as they are now
SBATCH_OPTION  options of sbatch, like --time=1:00:00 or --array=0-7; they win over the launcher's
--prune        remove submitted code that no job needs
END
}

# Set `request` (mode, live, query_option), and the arrays `names`, `overrides` and `options`.
parse_arguments() { # WORD...
  declare -gA request=([mode]=submit [live]='' [query_option]='')
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
      -*) die "there is no option $1, see --help; those of sbatch follow --" ;;
      \~* | *=*) if [[ -f $1 ]]; then names+=("$1"); else overrides+=("$1"); fi ;;
      *) names+=("$1") ;;
    esac
    shift
  done
  if [[ ${request[mode]} == prune ]]; then
    ((!${#names[@]})) || die "--prune takes no launcher"
  else
    ((${#names[@]})) || die "which launcher? $(cd "$scripts" && echo *.slurm)"
  fi
}

# Refuse options that would make sbatch do something else than submit, or move the job's files and directory.
refuse_options() {
  local word name message
  for word in "${options[@]}"; do
    for name in test-only wait quiet output error chdir wrap parsable help usage version clusters; do
      # sbatch takes an option shortened, too.
      [[ $word != --???* || --$name != "${word%%=*}"* ]] || die "--$name is not for submit.sh: leave $word out"
    done
    [[ ! $word =~ ^-[HIOksv]*[DMQVWeho] ]] || die "${BASH_REMATCH[0]} is not for submit.sh: leave $word out"
  done
  if ((!${#options[@]})); then return; fi
  # sbatch takes the first word that is not an option for the script: it would submit that in place of the launcher.
  message=$(sbatch --test-only "${options[@]}" --end-of-options 2>&1 < /dev/null) || true
  case $message in
    *"unrecognized option '--end-of-options'"*) ;;
    *"option '"* | *"option -- "* | *[Ii]"nvalid "*) die "${message%$'\n'Try*}" ;;
    *"script is empty"*) die "after -- the last option lacks its value: ${options[*]}" ;;
    *) die "after -- there are only options of sbatch, and no script: ${options[*]}" ;;
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
      [[ -e $directory ]] || directory=$folder/$directory # as one writes it in the experiment's folder
      [[ $directory -ef $scripts ]] || die "$name is not a launcher in $scripts"
    fi
    [[ -f $scripts/$launcher.slurm ]] || die "no launcher $scripts/$launcher.slurm"
    launchers+=("$launcher")
  done
}
