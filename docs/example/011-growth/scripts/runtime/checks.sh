# Check launchers before they are submitted. submit.sh sources this file.

readonly check_seconds=600 # the limit for a launcher's setup, and for all scripts of a group

declare -A files=() # by launcher: its path in the code that is checked
declare -A modes=() # by launcher: its EXPERIMENT_MODE
rules=()               # the lines in which launchers name the rules of their machines, each once

check_launchers() {
  local launcher rule
  check_bash_env
  for launcher in "${launchers[@]}"; do
    files[$launcher]=$tree/$experiment/scripts/${stems[$launcher]}.slurm
    check_text "$launcher" "${files[$launcher]}"
    check_options "$launcher" "${files[$launcher]}"
  done
  for rule in "${rules[@]}"; do warn "rule of ${rule#'# Rule of '}"; done
  preflight
}

# Refuse a BASH_ENV that changes the directory. In a job, bash reads that file before the launcher.
check_bash_env() {
  local place
  if [[ ! ${BASH_ENV-} ]]; then return; fi
  place=$(cd -- "$tree" && bash -c 'pwd -P' 2> /dev/null | tail -n 1) || true
  [[ $place == "$tree" ]] \
    || die "BASH_ENV: $BASH_ENV changes the directory, so launchers would not find their scripts. Run: unset BASH_ENV"
}

# Check what a launcher's text shows, and set its entry in `modes`.
check_text() { # LAUNCHER FILE
  local text message
  [[ -f $2 ]] || die "$1: git ignores it, so it cannot be pinned. Use --live."
  read_text "$2" text
  [[ $text != *$'\r'* ]] \
    || die "$1: it has DOS line breaks. Convert them: sed -i 's/\\r\$//' $(printf %q "$scripts/${stems[$1]}.slurm")"
  [[ $'\n'$text == *$'\n#SBATCH'* ]] \
    || die "$1: it is for a machine without Slurm. Run it there: bash $(printf %q "$scripts/${stems[$1]}.slurm")"
  read_lines "$1" "$text"
  message=$(bash -pn "$2" 2>&1) || die "$1: ${message#"$2: "}"
  ! is_from_template "$2" || [[ $'\n'$text == *$'\nrun=('* ]] \
    || die "$1: it lacks its command, run=( ... )"
  if [[ $'\n'$text =~ $'\n'export\ EXPERIMENT_MODE=([a-z]+) ]]; then modes[$1]=${BASH_REMATCH[1]}; fi
}

is_among() { # WORD WORD...
  local word
  for word in "${@:2}"; do
    if [[ $word == "$1" ]]; then return; fi
  done
  return 1
}

# Set RESULT to the text of a file. Builtins are used here and below, because a process for each launcher takes longer.
read_text() { # FILE RESULT
  IFS= read -r -d '' "$2" < "$1" || true
}

# Refuse #SBATCH lines that Slurm silently ignores: those that are indented or follow a command. Append to `rules` what
# the launcher's machine asks of people.
read_lines() { # LAUNCHER TEXT
  local line command='' number=0
  while IFS= read -r line; do
    number=$((number + 1))
    if [[ $line =~ ^[[:blank:]]+'#SBATCH' || ($command && $line == '#SBATCH'*) ]]; then
      die "$1: Slurm ignores the #SBATCH in line $number, because it is indented or follows a command"
    fi
    [[ $line =~ ^[[:blank:]]*(#|$) ]] || command=yes
    if [[ $line == '# Rule of '* ]] && ! is_among "$line" "${rules[@]}"; then rules+=("$line"); fi
  done <<< "$2"
}

# Return whether a launcher has the template's line for checks. Others are not executed by a check.
is_from_template() { # FILE
  local text line
  read_text "$1" text
  for line in "${check_lines[@]}"; do
    if [[ $'\n'$text == *$'\n'"$line"$'\n'* ]]; then return; fi
  done
  return 1
}

# The lines at which a launcher ends a check. Machines that forbid Python on login nodes have the second one.
mapfile -t check_lines << 'END'
if [[ ${1-} == --check ]]; then printf '%s\0' '' "${#python[@]}" "${python[@]}" "${#run[@]}" "${run[@]}" && exec env -0; fi
if [[ ${1-} == --check ]]; then printf '%s\0' '' 0 "${#run[@]}" "${run[@]}" && exit; fi
END
readonly check_lines

# The options of a launcher --------------------------------------------------------------------------------------------

# Let sbatch check a launcher with the options of the command line, and record the options that its job would have.
check_options() { # LAUNCHER FILE
  local -a words=("${options[@]}" "$2")
  local accepted=yes
  read_options "$1" "${words[@]}" || accepted=''
  # As a variable, SBATCH_ACCOUNT would override the launcher. It is passed only if the launcher has no account.
  if [[ $account && ! ${slurm_options[$1 account]-} ]]; then
    words=(--account="$account" "${words[@]}") accepted=''
  fi
  [[ $accepted ]] || test_options "$1" "$2" "${words[@]}"
  [[ ${slurm_options[$1 job-name]-} != */* ]] \
    || die "$1: the name of its job has a /, so Slurm could not write its log: ${slurm_options[$1 job-name]}"
  check_signal "$1" "${slurm_options[$1 signal]-}"
  [[ ,${slurm_options[$1 export]-ALL}, == *,ALL,* ]] \
    || warn "$1: the job does not have the environment of the preflight: --export is ${slurm_options[$1 export]}"
}

# Refuse a signal that ends torchrun alone. Warn if no process would get the signal.
check_signal() { # LAUNCHER SIGNAL
  local time=''
  if [[ ! $2 || ${modes[$1]-} != @(one|ddp|plain) ]]; then return; fi
  if [[ $2 == *@* ]]; then time=@${2##*@}; fi
  [[ ${modes[$1]} != ddp || $2 != *USR[12]* ]] \
    || die "$1: signal is $2, which kills torchrun and leaves its processes running. Use --signal=B:TERM$time"
  [[ $2 == *B*:* ]] \
    || warn "$1: signal is $2, which Slurm only sends to processes started by srun. Use --signal=B:$2"
}

# Set the launcher's entries in `slurm_options` to what Slurm reads from its #SBATCH lines and the command line, and its
# entry in `starts`. Return 1 if Slurm refuses the options.
read_options() { # LAUNCHER WORD...
  local line is_option='' status=0
  sbatch --verbose --test-only "${@:2}" > "$work/options" 2>&1 < /dev/null || status=1
  while IFS= read -r line; do
    case $line in
      'sbatch: defined options') is_option=yes ;;
      'sbatch: end of defined options') is_option='' ;;
      *) [[ ! $is_option || ! $line =~ ^sbatch:\ ([a-z-]+)\ *:\ (.*)$ ]] \
        || slurm_options[$1 ${BASH_REMATCH[1]}]=${BASH_REMATCH[2]} ;;
    esac
  done < "$work/options"
  record_start "$1" "$(< "$work/options")"
  return "$status"
}

# Record the start that `sbatch --test-only` estimates. It ignores dependencies and holds.
record_start() { # LAUNCHER MESSAGE
  if [[ ! ${slurm_options[$1 dependency]-}${slurm_options[$1 hold]-} && $2 =~ \ to\ start\ at\ ([0-9T:-]+) ]]; then
    starts[$1]=${BASH_REMATCH[1]}
  fi
}

# Exit if Slurm would refuse a launcher. Warn if it would queue it without a start time.
test_options() { # LAUNCHER FILE WORD...
  local message
  if message=$(LC_ALL=C sbatch --test-only "${@:3}" 2>&1 < /dev/null); then
    record_start "$1" "$message"
    return
  fi
  message=${message%$'\n'Try*}
  if [[ $message == *"mutually exclusive"* ]]; then message+=$(list_directives "$2" "$message"); fi
  if [[ $message == *"presently disabled"* && ${slurm_options[$1 dependency]-} ]]; then
    die "$1: it depends on a job that has failed: ${slurm_options[$1 dependency]}"
  fi
  is_queued_anyway "$1" "$message" || die "$1: $message"
  warn "$1: Slurm does not know yet when it can start: ${message#allocation failure: }"
}

# Return whether Slurm would queue a launcher that `sbatch --test-only` refuses. A node that is down or drained counts
# there as one that does not exist, while sbatch itself takes it into account.
is_queued_anyway() { # LAUNCHER MESSAGE
  local -a words=(sinfo --noheader --format=%T)
  if [[ ${slurm_options[$1 partition]-} ]]; then words+=(--partition="${slurm_options[$1 partition]}"); fi
  case $2 in
    *"nodes are busy"* | *"not available now"* | *"not usable now"* | *"currently unavailable"* | *"DOWN state"*) ;;
    *"configuration is not available"*) [[ $(ask_slurm "${words[@]}") =~ down|drain|fail|unk|boot|[*] ]] ;;
    *) return 1 ;;
  esac
}

# Print a launcher's #SBATCH options that a message names.
list_directives() { # FILE MESSAGE
  local names
  names=$(grep -oE -e '--[a-z-]+' <<< "$2" | paste -sd '|')
  sed -nE "s/^#SBATCH +(($names)[= ].*)/ The launcher has \1./p" "$1"
}

# Export the variables that Slurm would set in a job with the launcher's options.
export_job_variables() { # LAUNCHER
  local gpus=${slurm_options[$1 gpus-per-node]-${slurm_options[$1 gres]-${slurm_options[$1 gpus]-}}}
  if [[ ${slurm_options[$1 cpus-per-task]-} ]]; then export SLURM_CPUS_PER_TASK=${slurm_options[$1 cpus-per-task]}; fi
  if [[ ${slurm_options[$1 ntasks]-} ]]; then export SLURM_NTASKS=${slurm_options[$1 ntasks]}; fi
  if [[ $gpus =~ gpu[^,]*:([0-9]+) || $gpus =~ ^([0-9]+)$ ]]; then
    export SLURM_GPUS_ON_NODE=${BASH_REMATCH[1]}
  elif [[ $gpus == *gpu* ]]; then
    export SLURM_GPUS_ON_NODE=1
  fi
  if [[ ${slurm_options[$1 array]-} =~ ^[0-9]+ ]]; then export SLURM_ARRAY_TASK_ID=${BASH_REMATCH[0]}; fi
}

# The preflight --------------------------------------------------------------------------------------------------------

# Let each launcher of the template print its command and environment. Then start Python once for all launchers with
# the same Python command and environment. Print every problem, and exit if there is one.
#
# The functions below share two arrays: `groups`, the number of each group by its command and environment, and
# `findings`, the problems of each launcher. The files of group 0 are $work/0.requests and so on.
preflight() {
  local launcher failed=''
  local -A groups=() findings=()
  inspect_launchers
  for launcher in "${launchers[@]}"; do group_launcher "$launcher"; done
  check_groups
  for launcher in "${launchers[@]}"; do
    if [[ ! ${findings[$launcher]-} ]]; then continue; fi
    failed=yes
    printf '%s' "${findings[$launcher]}" >&2
  done
  [[ ! $failed ]] || exit 1
}

# Run the launchers up to their check line, eight at a time. Their output includes the environment, which may have
# secrets, so it is kept in a private folder and removed at the end.
inspect_launchers() {
  local launcher number=0
  answers=$(mktemp -d)
  for launcher in "${launchers[@]}"; do
    if ! is_from_template "${files[$launcher]}"; then continue; fi
    inspect_launcher "$launcher" &
    if ((++number % 8 == 0)); then wait; fi
  done
  wait
}

# Run a launcher up to its check line. Write its output, its errors and its exit code to $answers.
inspect_launcher() { # LAUNCHER
  local status=0
  # A function named printf of the user's shell must not replace the builtin that prints the answer.
  (cd -- "$tree" && export_job_variables "$1" && exec timeout --kill-after=10 "$check_seconds" \
    env --unset='BASH_FUNC_printf%%' \
    bash "${files[$1]}" ${configs[$1]:+"${configs[$1]}"} --check "${overrides[@]}") \
    < /dev/null > "$answers/$1" 2> "$answers/$1.errors" || status=$?
  echo "$status" > "$answers/$1.status"
}

# Read what a launcher has printed, and add the launcher to its group.
group_launcher() { # LAUNCHER
  local variable
  local -a environment python run own=() shared=()
  if ! is_from_template "${files[$1]}"; then
    ! needs_chain || add_finding "$1" "only launchers of the template can continue a run"
    warn "$1: only its text was checked, because it is not a launcher of the template"
    return
  fi
  read_answer "$1" || return 0
  check_run "$1" "${run[@]}" || return 0
  if ((!${#python[@]})); then
    warn "$1: the job checks its own script, because this machine forbids Python on login nodes." \
      "Inputs are not compared."
    return
  fi
  for variable in "${environment[@]}"; do
    case $variable in
      EXPERIMENT_MODE=* | SLURM_*) own+=("$variable") ;;
      EXPERIMENT_@(JOB|SUBMISSION|LEGS|END)=* | SHLVL=* | _=*) ;;
      *) shared+=("$variable") ;;
    esac
  done
  if [[ ${grids[$1]-} ]]; then own+=(EXPERIMENT_LARGEST_GRID="$(largest_grid "$1")"); fi
  add_to_group "$1" python run own shared
}

# Set `python`, `run` and `environment` to what a launcher has printed: any output of its setup, up to an empty word; a
# count and that many words of the Python command; a count and that many words of the run; and the environment. Return 1
# if the launcher has failed.
read_answer() { # LAUNCHER
  local count status
  local -a fields
  read -r status < "$answers/$1.status"
  if [[ $status != 0 ]]; then
    add_failure "$1" "$status" "$answers/$1.errors"
    return 1
  fi
  mapfile -t -d '' fields < "$answers/$1"
  if [[ ${fields[1]-} != +([0-9]) ]]; then
    add_finding "$1" "a command above the --check line ends the launcher with exit code 0"
    return 1
  fi
  count=${fields[1]}
  python=("${fields[@]:2:count}")
  fields=("${fields[@]:2+count}")
  count=${fields[0]}
  run=("${fields[@]:1:count}")
  environment=("${fields[@]:1+count}")
}

# Check the script and the configurations in a launcher's run=( ... ). Return 1 if one is wrong.
check_run() { # LAUNCHER WORD...
  local word text config='' after=''
  local -r launcher=$1 script=${2-}
  if [[ ! $script ]]; then
    add_finding "$launcher" "its run=( ... ) is empty"
  elif [[ ! -f $tree/$script ]]; then
    add_finding "$launcher" "its script $script does not exist"
  elif [[ ${request[query_option]} && $script != */query.py ]]; then
    add_finding "$launcher" "only launchers of queries take ${request[query_option]}"
  fi
  for word in "${@:3}"; do
    case $word in
      --config-name=* | -cn=*) config=${word#*=} ;;
      config=*) check_configuration "$launcher" "${word#*=}" ;;
    esac
    if [[ $after == --config-name || $after == -cn ]]; then config=$word; fi
    after=$word
  done
  if [[ $config ]]; then check_configuration "$launcher" "$config"; fi
  if needs_chain; then check_chain "$launcher" "$script"; fi
  [[ ! ${findings[$launcher]-} ]] || return 1
  if [[ $config && $script != */@(query|optuna_worker).py ]]; then
    config=${config%.yaml}
    read_text "$tree/$experiment/conf/$config.yaml" text
    [[ $'\n'$text != *$'\ngrid:'* ]] || check_grid "$launcher" "$config" || return 1
  fi
  read_text "$tree/$script" text
  [[ $text == *runtime* ]] || writes_outputs=yes
}

# Return whether a job of this submission continues a run.
needs_chain() {
  ((request[legs] > 1)) || [[ ${request[action]} == continue ]]
}

# Refuse legs where no run continues: a sweep's worker starts new trials, and a pack has several runs.
check_chain() { # LAUNCHER SCRIPT
  local text
  read_text "${files[$1]}" text
  if [[ ${modes[$1]-} == pack ]]; then
    add_finding "$1" "a pack has several runs, and legs continue only one run. Use a launcher with one run and --array."
  elif [[ $2 == */@(query|optuna_worker).py || $text == *"-m wandb agent"* ]]; then
    add_finding "$1" "legs continue a run, but this launcher starts a query or a sweep. Submit it again instead."
  fi
}

check_configuration() { # LAUNCHER NAME
  local -r file=$experiment/conf/${2%.yaml}.yaml
  if [[ -f $tree/$file ]]; then return; fi
  if [[ -f $root/$file ]]; then
    add_finding "$1" "git ignores its configuration $file, so it cannot be pinned. Use --live."
  else
    add_finding "$1" "its configuration $file does not exist"
  fi
}

# Write the request of a launcher for check.py to the file of its group. The last four arguments name arrays: the words
# of the Python command and of the run, and the variables of this launcher alone and of the whole group.
add_to_group() { # LAUNCHER PYTHON RUN OWN SHARED
  local -n python_words=$2 run_words=$3 own_variables=$4 shared_variables=$5
  local key group
  printf -v key '%s\n' "${python_words[@]}" '' "${shared_variables[@]}"
  group=${groups[$key]-}
  if [[ ! $group ]]; then
    group=${#groups[@]}
    groups[$key]=$group
    print_words "${python_words[@]}" > "$work/$group.python"
    print_words "${shared_variables[@]}" > "$answers/$group.environment"
  fi
  echo "$1" >> "$work/$group.launchers"
  run_words+=("${overrides[@]}")
  if [[ ${grids[$1]-} && ${request[name]} ]]; then run_words+=(config="${grids[$1]}.${request[name]}"); fi
  print_words "$1" "${#own_variables[@]}" "${own_variables[@]}" "${#run_words[@]}" "${run_words[@]}" \
    >> "$work/$group.requests"
}

# Start Python on each group, eight at a time, and read what it found.
check_groups() {
  local group task
  for ((group = 0; group < ${#groups[@]}; group++)); do
    check_group "$group" &
    if (((group + 1) % 8 == 0)); then wait; fi
  done
  for task in "${during_checks[@]}"; do "$task"; done
  wait
  for ((group = 0; group < ${#groups[@]}; group++)); do read_group "$group"; done
}

# Start check.py for a group. The probes are the variables that identify a run. check.py reports those that Python
# lacks.
check_group() { # GROUP
  local status=0
  local -a python environment
  local -r probes=(
    EXPERIMENT_MODE=one EXPERIMENT_JOB=0 EXPERIMENT_SUBMISSION=none EXPERIMENT_LEGS=0 EXPERIMENT_END=0
    SLURM_JOB_ID=0 SLURM_ARRAY_JOB_ID=0 SLURM_ARRAY_TASK_ID=0 SLURM_RESTART_COUNT=0 SLURM_CLUSTER_NAME=none
    SLURM_NTASKS=1 SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_STEP_ID=0 SLURM_CPUS_PER_TASK=1
  )
  mapfile -t -d '' python < "$work/$1.python"
  mapfile -t -d '' environment < "$answers/$1.environment"
  (cd -- "$tree" && exec timeout --kill-after=10 "$check_seconds" env -i "${environment[@]}" "${probes[@]}" \
    "${python[@]}" "$experiment/scripts/runtime/check.py" "$work" "$1") \
    < /dev/null > /dev/null 2> "$work/$1.errors" || status=$?
  echo "$status" > "$work/$1.status"
}

# Read the findings of a group. The checksums of its inputs and the states of its points stay where check.py writes them.
read_group() { # GROUP
  local launcher line status
  read -r status < "$work/$1.status"
  while read -r launcher; do
    if [[ $status != 0 ]]; then add_failure "$launcher" "$status" "$work/$1.errors"; fi
  done < "$work/$1.launchers"
  if [[ $status != 0 ]]; then return; fi
  while IFS= read -r -d '' launcher && IFS= read -r -d '' line; do
    add_finding "$launcher" "$line"
  done < "$work/$1.problems"
  while IFS= read -r -d '' launcher && IFS= read -r -d '' line; do
    warn "$launcher: $line"
  done < "$work/$1.notes"
}

add_finding() { # LAUNCHER LINE
  findings[$1]+="submit.sh: $1: $2"$'\n'
}

# Record why a check has failed: the last line that it printed, or its exit code.
add_failure() { # LAUNCHER CODE ERRORS
  local line
  line=$(grep -v '^[[:space:]]*$' "$3" | tail -n 1) || true
  # bash begins an error of the launcher itself with the launcher's path and line.
  line=${line#"${files[$1]}: line "+([0-9]): }
  if [[ $2 == 124 ]]; then
    line="its check took more than $check_seconds s."
    line+=" Look for a command that waits, in its setup or at the top of its script."
  fi
  add_finding "$1" "${line:-its check ended with exit code $2}"
}
