# Decide whether a leg of a chain of jobs continues the run, and export the end of the job's time. A launcher sources
# this file in a job, before its setup, and calls print_start after that.
#
#   EXPERIMENT_LEGS  the earlier jobs of the chain, like 686,687. It ends in a comma if the user continues the run
#   EXPERIMENT_END   when the time limit ends this job, in seconds since 1970; empty if that is not known

# Print the first lines of a job's log: its host, its commit and its command.
print_start() { # COMMAND...
  local commit='live files, submitted without submit.sh'
  if [[ $EXPERIMENT_SUBMISSION ]]; then commit=$(< "$EXPERIMENT_SUBMISSION/commit"); fi
  printf 'host %s\ncommit %s\ncommand' "$HOSTNAME" "$commit"
  printf ' %q' "$@"
  printf '\n'
}

# End this leg if the leg before it leaves nothing to do. A requeued leg has decided that before.
check_earlier_leg() {
  local -r task=${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID} runs=$EXPERIMENT_SUBMISSION/runs
  local -r earlier=${EXPERIMENT_LEGS##*,}$task chain=${EXPERIMENT_LEGS%%,*}
  local status state
  if [[ $EXPERIMENT_LEGS != *[0-9] || -e $runs/$EXPERIMENT_JOB$task ]]; then return; fi
  status=$(recorded_status "$runs/$earlier")
  if [[ $status == @(finished|failed|pruned) ]]; then end_leg "the run's status is $status"; fi
  state=$(end_of_job "$earlier") || state=UNKNOWN
  case $state/$status in
    UNKNOWN/paused | COMPLETED/paused | FAILED/paused) ;;
    TIMEOUT/* | PREEMPTED/* | NODE_FAIL/* | BOOT_FAIL/*) ;;
    FAILED/terminated) ;; # --signal=B:TERM@60 ends a run before its limit
    UNKNOWN/*) stop_leg "Slurm does not know how job $earlier ended" ;;
    CANCELLED/*) end_leg "job $earlier was cancelled. To continue the run: $(continuation)" ;;
    COMPLETED/*) end_leg "job $earlier completed" ;;
    *) end_leg "job $earlier ended by ${state//_/ }" ;;
  esac
}

# Print the status in the record of a run, or nothing without a record.
recorded_status() { # FOLDER
  if [[ ! -e $1/provenance.json || ! $(< "$1/provenance.json") =~ \"status\":\ *\"([a-z]*)\" ]]; then return; fi
  printf '%s\n' "${BASH_REMATCH[1]}"
}

# Print the state in which a job has ended. Return 1 if neither squeue nor sacct has the answer: squeue has a job for
# some minutes after its end, and sacct for years, if the cluster has accounting.
end_of_job() { # JOB
  local attempt state
  unset "${!SQUEUE_@}" "${!SACCT_@}"
  for attempt in 1 2 3; do
    if ((attempt > 1)); then sleep 5; fi
    state=$(timeout 20 squeue --noheader --states=all --format=%T --jobs="$1" 2> /dev/null || true)
    if ! is_end "$state"; then
      state=$(timeout 20 sacct --allocations --noheader --parsable2 --format=State --jobs="$1" 2> /dev/null || true)
    fi
    if is_end "$state"; then
      printf '%s\n' "${state%%[!A-Z_]*}"
      return
    fi
  done
  return 1
}

is_end() { # STATE
  [[ $1 =~ ^(BOOT_FAIL|CANCELLED|COMPLETED|DEADLINE|FAILED|NODE_FAIL|OUT_OF_MEMORY|PREEMPTED|TIMEOUT) ]]
}

end_leg() { # REASON
  printf 'job %s of the chain of job %s ends: %s\n' "$EXPERIMENT_JOB" "$chain" "$1"
  exit
}

stop_leg() { # REASON
  printf 'job %s of the chain of job %s stops: %s. To continue the run: %s\n' \
    "$EXPERIMENT_JOB" "$chain" "$1" "$(continuation)" >&2
  exit 1
}

# Print the command that continues the run, whatever has ended it.
continuation() {
  printf 'bash %q --continue %s' "${EXPERIMENT_SUBMISSION%/slurm/submitted/*}/scripts/submit.sh" "$chain$task"
}

# Print when the time limit ends this job. Newer versions of Slurm have a variable for it.
end_of_time() {
  local answer=${SLURM_JOB_END_TIME-}
  local -r entry=$EXPERIMENT_JOB${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}
  unset "${!SQUEUE_@}"
  if [[ ! $answer ]]; then
    answer=$(SLURM_TIME_FORMAT=%s timeout 20 squeue --noheader --format=%e --jobs="$entry" 2> /dev/null) || true
  fi
  if [[ $answer =~ ^[0-9]+$ ]]; then printf '%s\n' "$answer"; fi
}

unset -f printf # the user's shell may export a function of this name
check_earlier_leg
EXPERIMENT_END=$(end_of_time)
export EXPERIMENT_END
