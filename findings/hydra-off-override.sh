#!/usr/bin/env bash
# Hydra 1.3.8 with OmegaConf 2.3.1: `flag: off` in a configuration is False, and flag=off on the command line is a text.
#
# Guess: both are False, since an override has the syntax of YAML.
# Seen:  the override gives the text "off", which is true in `if cfg.flag:`, so the run does the opposite of what was
#        typed. on, yes and no differ in the same way, and 017 (15 or "017"), 1:30 (90 or "1:30"), 0x1f (31 or "0x1f").
# Here:  an axis of a grid is written in YAML: its values reach the run as YAML reads them
#        (scripts/runtime/hydra_yaml.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check \
  hydra-core==1.3.8 omegaconf==2.3.1 2> /dev/null
cd "$folder"
printf '%s\n' 'flag: off' 'angle: 017' 'time: 1:30' > config.yaml
cat > job.py << 'END'
import hydra


@hydra.main(version_base=None, config_path=".", config_name="config")
def main(cfg):
    print([cfg.flag, cfg.angle, cfg.time])


main()
END
written=$(env/bin/python job.py)
typed=$(env/bin/python job.py flag=off angle=017 time=1:30)
version=$(env/bin/python -c 'from importlib.metadata import version; print(version("hydra-core"))')
echo "hydra-core $version: off, 017 and 1:30 in YAML: $written; on the command line: $typed"
[[ $written == "[False, 15, 90]" && $typed == "['off', '017', '1:30']" ]] || { echo "this has changed" >&2; exit 1; }
