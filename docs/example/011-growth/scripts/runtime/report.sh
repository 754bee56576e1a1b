# Print what was checked or submitted, in lines of at most 80 columns where paths allow it. submit.sh sources this file.

readonly columns=80

print_ready() {
  local launcher
  for launcher in "${!stems[@]}"; do
    if [[ ${summaries[$launcher]-} && ! ${arrays[$launcher]-} ]]; then
      printf '%s: nothing to submit\n' "$launcher"
      print_summary "$launcher"
    fi
  done
  for launcher in "${launchers[@]}"; do
    printf '%s: ready\n' "$launcher"
    print_summary "$launcher"
  done
}

# Print how many points of a launcher are in which state.
print_summary() { # LAUNCHER
  if [[ ${summaries[$1]-} ]]; then print_field points "${summaries[$1]}"; fi
}

# Print the jobs, their estimated starts, and the commands that watch their logs and cancel them.
print_jobs() {
  local launcher job reason
  local -A names=() tasks=()
  ask_names
  shorten_logs
  for launcher in "${launchers[@]}"; do
    job=${chains[$launcher]%% *}
    printf '%s: job %s\n' "$launcher" "$job"
    if [[ ${chains[$launcher]} == *' '* ]]; then print_field legs "${chains[$launcher]#* }"; fi
    print_summary "$launcher"
    if [[ ${starts[$launcher]-} ]]; then printf '  start  %s, as Slurm estimates\n' "${starts[$launcher]/T/ }"; fi
    if [[ ${names[$job]-} ]]; then
      print_watch "${names[$job]}_$job" "${tasks[$job]}"
    else
      print_field log "unknown, because squeue ${reason//$'\n'/; }. It will be in ${shown_logs%/}"
    fi
  done
  print_cancel
}

# Set `names`, the final name of each job, and `tasks`, its first task or N/A. Only Slurm knows them. Set `reason` to why
# a job is missing there.
ask_names() {
  local answer job task name
  reason='does not list the job'
  answer=$(IFS=, && ask_slurm squeue --noheader --states=all --jobs="${jobs[*]}" --format='%F|%K|%j') \
    || reason="failed ($(< "$work/error"))"
  while IFS='|' read -r job task name; do
    task=${task#[}
    if [[ ! ${names[${job:-0}]-} ]] || ((${task%%[!0-9]*} < ${tasks[$job]%%[!0-9]*})); then
      names[${job:-0}]=$name tasks[${job:-0}]=$task
    fi
  done <<< "$answer"
}

# Set `shown_logs` to the shortest path of the logs' folder that works here, with a / at its end.
shorten_logs() {
  local base up='' other
  local -a others=()
  printf -v shown_logs '%q/' "$logs"
  if [[ ${HOME-} == /?* && $logs == "$HOME"/* ]]; then
    printf -v other '%q' "${logs#"$HOME"/}"
    others+=(\~/"$other/")
  fi
  if base=$(pwd -P 2> /dev/null) && [[ $base != / ]]; then
    while [[ $logs/ != "$base"/* ]]; do base=${base%/*} up+=../; done
    other=$logs/
    printf -v other '%q' "$up${other#"$base"/}"
    others+=("${other#"''"}")
  fi
  for other in "${others[@]}"; do
    if ((${#other} < ${#shown_logs})); then shown_logs=$other; fi
  done
}

# Print the command that follows a log. For an array, that is the log of the first task.
print_watch() { # NAME TASKS
  local line name=$1
  if [[ $2 != N/A ]]; then name+=_${2%%[!0-9]*}; fi
  printf -v name '%q.out' "$name"
  line="  watch  tail -F ${shown_logs:-./}$name"
  if ((${#line} > columns)) && [[ $shown_logs ]]; then
    line="  watch  (cd ${shown_logs%/} &&"$'\n'"           tail -F $name)"
  fi
  printf '%s\n' "$line"
}

# Print the command that cancels all jobs. Four or more successive numbers are {FIRST..LAST}, which bash and zsh expand.
print_cancel() {
  local job first='' last=''
  local -a words=(scancel)
  for job in "${jobs[@]}" ''; do
    if [[ $last && $job == $((last + 1)) ]]; then
      last=$job
      continue
    fi
    if [[ $first ]] && ((last - first > 2)); then
      words+=("{$first..$last}")
    else
      for ((; first && first <= last; first++)); do words+=("$first"); done
    fi
    first=$job last=$job
  done
  print_folded 'cancel ' ' \' "${words[@]}"
}

print_commit() {
  local -a words=(git)
  if [[ $PWD/ != "$root"/* ]]; then words+=(-C "$(printf %q "$root")"); fi
  if [[ ${request[live]} ]]; then
    printf 'commit %s\n' "$commit${dirty:+-dirty}"
    print_field live "the jobs run the files of $root as they are when they start"
  elif [[ $dirty ]]; then
    printf 'commit %s has your uncommitted changes:\n' "$commit"
    print_folded '  ' ' \' "${words[@]}" show "$commit"
  else
    printf 'commit %s\n' "$commit"
  fi
}

# Print a field of an entry.
print_field() { # LABEL TEXT
  local label
  local -a words
  printf -v label '  %-6s ' "$1"
  read -ra words <<< "$2"
  print_folded "$label" '' "${words[@]}"
}

# Print words after a label. Lines that go on end in END.
print_folded() { # LABEL END WORD...
  local word line=$1 text=''
  for word in "${@:3}"; do
    if [[ $text ]] && ((${#line} + ${#word} + 1 + ${#2} > columns)); then
      printf '%s%s\n' "$line" "$2"
      printf -v line '%*s' "${#1}" ''
      text=''
    fi
    line+=${text:+ }$word text=yes
  done
  printf '%s\n' "$line"
}
