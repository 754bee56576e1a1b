# Submit recorded runs again, or continue them. submit.sh sources this file, which reads only the receipts of
# submissions in slurm/submitted, and the records of runs to which these receipts have links.

# Set `recorded` to the receipt of a run, and `recorded_tasks` to its tasks of a job array, if it has any.
find_receipt() { # RUN
  local found='' run_folder=$1
  recorded_tasks=''
  if [[ ! -e $run_folder/provenance.json && $run_folder =~ ^([0-9-]*[0-9a-f]+)(_([0-9,-]+))?$ ]]; then
    found=${BASH_REMATCH[1]} recorded_tasks=${BASH_REMATCH[3]}
    if [[ $found =~ ^[0-9]+$ ]]; then
      # The newest one: a receipt that continues a run lists the earlier jobs, too.
      found=$(cd -- "$folder/slurm/submitted" 2> /dev/null && grep -lxs -e "$found" -- */legs | tail -n 1) || true
      found=${found%/legs}
    fi
  fi
  recorded=$folder/slurm/submitted/$found
  if [[ $found && -e $recorded/launcher ]]; then return; fi
  [[ -e $run_folder/provenance.json ]] || run_folder=$(find_run "$1")
  [[ $run_folder ]] || die "unknown run \"$1\"; expected a job, a receipt, CONFIG/RUN or a run folder, of a submitted run"
  found=$(recorded_fact "$run_folder" submission)
  [[ $found ]] || die "$1 was not submitted by submit.sh, so its options are not recorded. Start it by hand."
  recorded_tasks=$(recorded_fact "$run_folder" SLURM_ARRAY_TASK_ID)
  recorded=$folder/slurm/submitted/$found
  [[ -e $recorded/launcher ]] || die "$1: $folder/slurm/submitted has no receipt for it"
}

# Print the folder of a submitted run, given the end of its path, like growth_gh_001/clean_0.
find_run() { # NAME
  local folders
  folders=$(cd -- "$folder/slurm/submitted" 2> /dev/null && find . -path '*/runs/*' -type l -printf '%l\n' | sort -u) || true
  folders=$(name=/${1%/} awk 'substr($0, length($0) - length(ENVIRON["name"]) + 1) == ENVIRON["name"]' <<< "$folders")
  [[ $folders != *$'\n'* ]] || die "several runs are named $1. Give one of these folders: ${folders//$'\n'/ }"
  printf '%s\n' "$folders"
}

# Print a text of a run's record.
recorded_fact() { # FOLDER NAME
  local found
  found=$(grep --max-count=1 --only-matching -e "\"$2\": *\"[^\"]*\"" -- "$1/provenance.json" 2> /dev/null) || return 0
  found=${found%%$'\n'*}
  found=${found%'"'}
  printf '%s\n' "${found##*'"'}"
}

# Take the launcher, the configuration, the overrides and the options of a receipt. Options of the command line follow.
take_receipt() {
  local -a own=("${options[@]}")
  local -r stem=$(< "$recorded/launcher")
  [[ -f $scripts/$stem.slurm ]] \
    || die "${request[run]}: scripts/$stem.slurm does not exist: it was removed or renamed. Submit the new one."
  [[ $(cat -- "$recorded/live" 2> /dev/null) != true || $(< "$recorded/dirty") != true ]] \
    || die "${request[run]}: it was submitted with --live and uncommitted changes, so its code is not recorded"
  add_launcher "$stem" "$(< "$recorded/config")"
  if [[ ! ${request[name]} ]]; then
    if [[ ${request[action]} == again ]]; then refuse_finished_points; fi
    request[name]=$(< "$recorded/name")
  fi
  mapfile -t -d '' overrides < "$recorded/words"
  mapfile -t -d '' options < "$recorded/options"
  options+=(${recorded_tasks:+--array="$recorded_tasks"} "${own[@]}")
  if [[ ${request[action]} == continue ]]; then
    refuse_finished
    request[earlier]=$(paste -sd, "$recorded/legs"),
  fi
}

# Refuse to submit finished points again: their tasks would end at once.
refuse_finished_points() {
  local task
  if [[ ! -e $recorded/ntasks || ! $recorded_tasks ]]; then return; fi
  for task in $(list_repeated); do is_task_finished "${task##*_}" || return 0; done
  die "${request[run]}: this point is finished. Add --name NAME to compute it in runs/CONFIG.NAME."
}

# Return whether all runs of a task have finished. A pack has several.
is_task_finished() { # TASK
  local link is_started=''
  for link in "$recorded/runs"/*_"$1"{,.*}; do
    [[ -e $link/provenance.json ]] || continue
    [[ $(recorded_fact "$link" status) == finished ]] || return 1
    is_started=yes
  done
  [[ $is_started ]]
}

# Refuse to continue a run that has finished.
refuse_finished() {
  local link
  for link in "$recorded/runs"/*; do
    if [[ $recorded_tasks && $link != *_"$recorded_tasks" ]]; then continue; fi
    [[ $(recorded_fact "$link" status) != finished ]] \
      || die "${request[run]}: this run is finished. Use --again to run it from its start."
  done
}

# Print the runs that this submission repeats: the receipt, or the receipt and a task on each line.
list_repeated() {
  local range number
  if [[ ! $recorded_tasks ]]; then printf '%s\n' "${recorded##*/}"; fi
  for range in ${recorded_tasks//,/ }; do
    for ((number = ${range%-*}; number <= ${range#*-}; number++)); do printf '%s_%s\n' "${recorded##*/}" "$number"; done
  done
}

# Warn about inputs that have changed since the recorded submission.
compare_inputs() {
  local -r now=$work/inputs/${launchers[0]}
  if [[ ! -e $recorded/inputs || ! -e $now ]] || cmp --silent -- "$recorded/inputs" "$now"; then return; fi
  warn "${launchers[0]}: its inputs have changed since ${recorded##*/}"
}

# Every failed run of a configuration ----------------------------------------------------------------------------------

# Submit each failed, lost or timed-out run of a configuration again. Skip runs that were submitted again before.
submit_failed() { # CONFIG OPTION...
  local receipt run status=0
  local -A ends=()
  local -a own=() failed=() words=()
  [[ ${request[mode]} != check ]] || words+=(--dry-run)
  [[ ! ${request[parsable]} ]] || words+=(--parsable)
  ((request[legs] == 1)) || words+=(--legs "${request[legs]}")
  for receipt in "$folder/slurm/submitted"/*/; do
    receipt=${receipt%/}
    if [[ -s $receipt/legs && $(receipt_config "$receipt") == "$1" ]]; then own+=("$receipt"); fi
  done
  ((${#own[@]})) || die "$1: no launcher was submitted with this configuration"
  read_ends "${own[@]}"
  for receipt in "${own[@]}"; do
    run=$(failed_run "$receipt")
    if [[ $run ]]; then failed+=("$run"); fi
  done
  if ((!${#failed[@]})); then die "no run of $1 has failed, or all failed runs were resubmitted"; fi
  for run in "${failed[@]}"; do
    "$BASH" -p -- "$scripts/submit.sh" --again "$run" "${words[@]}" -- "${@:2}" || status=1
  done
  return "$status"
}

# Print the configuration of a receipt, with its name: the one that was typed, else that of the launcher.
receipt_config() { # RECEIPT
  local config name launcher
  config=$(cat -- "$1/config" 2> /dev/null) name=$(cat -- "$1/name" 2> /dev/null) || return 0
  if [[ ! $config ]]; then
    launcher=$scripts/$(cat -- "$1/launcher").slurm
    config=$(sed -n 's/.*--config-name[ =]\([A-Za-z0-9_.-]*\).*/\1/p' "$launcher" 2> /dev/null) || return 0
  fi
  printf '%s\n' "$config${name:+.$name}"
}

# Set `ends` to the state of each job and task of receipts, as Slurm has it. squeue knows a job better than sacct does.
read_ends() { # RECEIPT...
  local jobs entry state
  jobs=$(cat -- "${@/%//legs}" | sort -u | paste -sd,)
  while IFS='|' read -r entry state; do
    ends[${entry:-none}]=${state%% *}
  done < <(
    timeout 60 sacct --allocations --noheader --parsable2 --format=JobID,State --jobs="$jobs" 2> /dev/null || true
    ask_slurm squeue --noheader --array --states=all --format='%i|%T' --jobs="$jobs,${jobs%%,*}" || true
  )
}

# Print a receipt if its run has failed, with the failed tasks of an array. A chain has failed if its last leg has.
failed_run() { # RECEIPT
  local entry task tasks=''
  local -a legs
  local -A seen=()
  mapfile -t legs < "$1/legs"
  for entry in "${!ends[@]}"; do
    if [[ ${entry%%_*} == "${legs[0]}" ]]; then seen[$entry]=yes; fi
  done
  for entry in "$1/runs/${legs[0]}"*; do
    entry=${entry##*/} entry=${entry%%.*}
    if [[ ${entry%%_*} == "${legs[0]}" ]]; then seen[$entry]=yes; fi
  done
  for entry in "${!seen[@]}"; do
    task=${entry#"${legs[0]}"}
    if [[ $task == *'['* ]] || ! has_failed "$1" "$task" || was_repeated "$1" "$task"; then continue; fi
    if [[ ! $task ]]; then printf '%s\n' "${1##*/}" && return; fi
    tasks+=${tasks:+$'\n'}${task#_}
  done
  if [[ $tasks ]]; then printf '%s_%s\n' "${1##*/}" "$(sort -n <<< "$tasks" | paste -sd,)"; fi
}

# Return whether a task of a receipt has failed, by its record and what Slurm knows. `legs` has the jobs of its chain.
has_failed() { # RECEIPT TASK
  local leg last=${legs[0]} link status='' state result=1
  for leg in "${legs[@]}"; do
    case ${ends[$leg$2]-} in
      PENDING | RUNNING | REQUEUE* | SUSPENDED | CONFIGURING | COMPLETING) return 1 ;;
    esac
    if [[ -e $1/runs/$leg$2 ]]; then last=$leg; fi
  done
  state=${ends[$last$2]-}
  for link in "$1/runs/$last$2" "$1/runs/$last$2".*; do # a pack has several runs
    if [[ $link == *'.*' ]]; then continue; fi
    status=$(recorded_fact "$link" status)
    if [[ $status && $(recorded_fact "$link" submission) != "${1##*/}" ]]; then continue; fi # a later one goes on there
    case $status/$state in
      finished/* | pruned/* | paused/* | */CANCELLED) ;;
      failed/* | running/* | */FAILED | */TIMEOUT | */OUT_OF_MEMORY | */*_FAIL | */PREEMPTED | */DEADLINE) result=0 ;;
    esac
  done
  return "$result"
}

# Return whether a task of a receipt was submitted again.
was_repeated() { # RECEIPT TASK
  grep -qxsF -e "${1##*/}$2" -e "${1##*/}" -- "$folder/slurm/submitted"/*/again
}
