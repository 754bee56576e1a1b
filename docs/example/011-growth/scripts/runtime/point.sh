# Choose the point of a job if its configuration has a grid, and record the runs of scripts that do not. A launcher
# sources this file once `python` and `run` are set, and then starts `run`. A job without a point to compute ends here.
#
# `bash point.sh CLUSTER JOB` prints whether Slurm still has a job: live or gone.

# shellcheck disable=SC2154  # the launcher sets `python`
choose_point() { # OVERRIDE...
  local -r runtime=${BASH_SOURCE[0]%/*}
  local config file code=0
  local -a words=() gone=()
  config=$(find_configuration "${run[@]}" "$@")
  if [[ ! ${EXPERIMENT_JOB-} || ! $config ]]; then return; fi
  if ! grep --quiet '^grid:' -- "$runtime/../../conf/$config.yaml"; then
    record_run
    return
  fi
  file=$(mktemp -- "${EXPERIMENT_SUBMISSION:-${TMPDIR:-/tmp}}/.point.XXXXXXXXXX")
  if [[ $EXPERIMENT_MODE == pack ]]; then choose_in_pack; else claim_one; fi || code=$?
  rm -f -- "$file"
  if ((code == finished || code == taken)); then exit 0; fi
  if ((code)); then exit 1; fi
}

# The exit codes of point.py.
finished=3 taken=4 ask=5

# Claim the point of this job, and append its words to `run`.
claim_one() {
  local code=$ask
  while ((code == ask)); do
    code=0
    "${python[@]}" "$runtime/point.py" --claim "$config" "$file" "${gone[@]}" || code=$?
    if ((code == ask)); then
      mapfile -d '' words < "$file"
      find_gone "${words[@]}" || return
      ((${#gone[@]})) && [[ ${gone[-1]} == "${words[1]}" ]] || return "$taken"
    fi
  done
  if ((code)); then return "$code"; fi
  mapfile -d '' words < "$file"
  run+=("${words[@]}")
  record_run
}

# Run the script through point.py if the preflight has found that it does not record its runs.
record_run() {
  if [[ -e ${EXPERIMENT_SUBMISSION:-/dev/null}/unrecorded ]]; then
    run=("$runtime/point.py" --hydra "$config" -- "${run[@]}")
  fi
}

# Make each process of a pack claim its own point. Slurm is asked here, because it may not answer in a container.
choose_in_pack() {
  "${python[@]}" "$runtime/point.py" --holders "$config" "$file" || return
  mapfile -d '' words < "$file"
  find_gone "${words[@]}" || return
  run=("$runtime/point.py" --exec "$config" "${gone[@]}" -- "${run[@]}")
}

# Append the jobs to `gone` that Slurm no longer has, and print the others.
find_gone() { # [CLUSTER JOB POINT]...
  local state
  while (($#)); do
    state=$(state_of_job "$1" "$2") || return
    if [[ $state == gone ]]; then gone+=("$2"); else printf 'point %s: job %s computes it\n' "$3" "$2"; fi
    shift 3
  done
}

# Print "live" or "gone", as Slurm answers about a job. Without an answer, print the reason and return 1.
state_of_job() { # CLUSTER JOB
  local cluster answer
  cluster=${SLURM_CLUSTER_NAME:-$(scontrol show config 2>&1 | sed -n 's/^ClusterName *= //p')}
  answer="it is a job of cluster $1, and this is ${cluster:-no cluster}"
  if [[ $cluster == "$1" ]]; then
    answer=$(squeue --noheader --states=all --format=%T --jobs="$2" 2>&1) || true
    case $answer in
      '' | *'Invalid job id specified'*) echo gone && return ;;
      BOOT_FAIL | CANCELLED | COMPLETED | DEADLINE | FAILED | NODE_FAIL) echo gone && return ;;
      OUT_OF_MEMORY | PREEMPTED | REVOKED | TIMEOUT) echo gone && return ;;
      COMPLETING | CONFIGURING | PENDING | RESIZING | REQUEUED | REQUEUE_* | RUNNING) echo live && return ;;
      SIGNALING | SPECIAL_EXIT | STAGE_OUT | STOPPED | SUSPENDED) echo live && return ;;
    esac
  fi
  printf 'job %s holds a point, and Slurm did not return its state: %s. Submit this point again later.\n' \
    "$2" "${answer//$'\n'/; }" >&2
  return 1
}

# Print the word after --config-name.
find_configuration() { # WORD...
  while (($#)); do
    case $1 in
      --config-name=*) echo "${1#*=}" && return ;;
      --config-name) echo "${2-}" && return ;;
    esac
    shift
  done
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then state_of_job "$@"; else choose_point "$@"; fi
