"""Build a git monorepo laid out like a real computational lab's, to test an experiment template against.

    python replica.py FOLDER     build and commit it in an empty folder
    python replica.py --facts    print the facts below as JSON

Names, people and data are invented. The facts of each experiment:

    launchers  "as it is": a single run that follows MACHINE_SCRIPT[-MODE]_ID and SCRIPT_LABEL_ID; "renamed": a single
               run under other names; "no": not a single run, or broken, with the reason. `id` is "any" if the launcher
               has none. `options` lists what it asks of sbatch, without job name and log files.
    findings   everything that is wrong, one entry per file and kind. A checker that reports anything else is mistaken.
    right      things that look wrong but are right, by file or fnmatch pattern, with the reason
    scripts    scripts of kind "hydra" and "argparse" run here with FOLDER on PYTHONPATH; `reads` are committed inputs

`slurm/output` exists where launchers log to it. Git ignores it, so a fresh clone has none.
`lab` is the lab.yml to write into a copy of the template, because the account names are invented.
"""

import base64
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

# How to read DATA: words in <> are substituted. `conf` lists configurations as NAME or NAME < BASE. `sweeps` are W&B
# sweep files with their script. `ask` holds sbatch options, or keys of `asks`. `run` is MACHINE[-MODE]_ID of SCRIPT.
# `config` defaults to SCRIPT_LABEL_ID. `swap` replaces text. `why` explains why a launcher is not a run, or must be
# renamed. `wrong` is {KIND: WHAT}, `right` is {LOOKS LIKE: REASON}, both for a launcher or another file.
DATA: dict[str, Any] = yaml.safe_load(r"""
lab: # its lab.yml, for a copy of the template
  {repository: https://github.com/example/cellab, package: cellab, first_run: gh_000, queries: true, machines: {
    gh: &gh {cluster: Gila, sbatch: {partition: main, cpus-per-task: 16, mem: 64g, gres: "gpu:1", time: 2-00:00:00},
      python: '"$HOME/miniconda3/envs/cellab/bin/python"'},
    igb_cabbi: {<<: *gh, cluster: Bio, sbatch: {partition: cabbi, gres: "gpu:4"}, preflight: false},
    igb_mmli: {<<: *gh, cluster: Bio, sbatch: {partition: mmli, gres: "gpu:4"}, preflight: false},
    delta: {<<: *gh, cluster: Delta, sbatch: {partition: gpuA40x4, account: lab-delta-gpu, gres: "gpu:4"}},
    delta_cpu: {<<: *gh, cluster: Delta, sbatch: {partition: cpu, account: lab-delta-cpu}}}}
asks:
  agents: --ntasks=32 --cpus-per-task=4 --mem=930G --gres=gpu:0 --time=365-00:00:00 --no-requeue
  four: -p main --mem=400g -N 1 --ntasks=1 --cpus-per-task=16 --gres=gpu:4 --time=300-00:00:00
  gpu: -p main --mem=64g -N 1 --ntasks=1 --cpus-per-task=8 --gres=gpu:1 --time=1-00:00:00
  cpus: --ntasks=1 --cpus-per-task=16 --mem=48G --time=01:00:00
  cabbi4: -p cabbi --mem=400g -N 1 --ntasks=1 --cpus-per-task=14 --gres=gpu:4 --time=300-00:00:00
  mmli4: -p mmli --mem=480g -N 1 --ntasks=4 --cpus-per-task=16 --gres=gpu:4 --time=7-00:00:00
  a40: --mem=243g --nodes=1 --ntasks=4 --cpus-per-task=8 --gres=gpu:4 --partition=gpuA40x4 --time=48:00:00
  lab: --account=lab-delta-gpu
  mail: --mail-user=ada@example.org --mail-type=END,FAIL
sites: # where a launcher says that the repository is, and its logs; `here` is portable
  {here: $SLURM_SUBMIT_DIR, gh: /home/ada/projects/cellab, igb: /home/a-m/ada/projects/cellab,
    scratch: /scratch/projects/cellab, projects: /projects/abcd/cellab, delta: /scratch/abcd/ada/cellab}
bodies:
  one: |
    cd "<root>" || exit 1
    export PYTHONPATH="<root>${PYTHONPATH:+:$PYTHONPATH}"
    ~/miniconda3/envs/cellab/bin/python experiments/<x>/scripts/<script>.py <arguments>
  ddp: |
    cd <root>/experiments || exit 1
    export NUM_WORKERS=$((SLURM_CPUS_PER_TASK - 2)) # two for all else
    singularity exec --nv <root>/rocky.sif bash -c "
    source \$HOME/miniconda3/bin/activate cellab
    export PYTHONPATH=\"<root>:\$PYTHONPATH\"
    torchrun --standalone --nnodes=1 --nproc_per_node=4 \
      <root>/experiments/<x>/scripts/<script>.py <arguments> data.num_workers=\$NUM_WORKERS
    "
  srun: |
    module purge
    export MASTER_ADDR=$(hostname) MASTER_PORT=$(shuf -i 10000-65500 -n 1)
    srun --kill-on-bad-exit=1 apptainer exec --nv --bind /projects/abcd:/projects/abcd <root>/rocky.sif bash -c "
    source $HOME/miniconda3/bin/activate cellab
    PYTHONPATH=<root> python <root>/experiments/<x>/scripts/<script>.py <arguments>
    "
  agents: |
    SWEEP_ID=ab12cd34 # of an earlier `wandb sweep`
    for ((i = 0; i < SLURM_NTASKS; i++)); do
      CUDA_VISIBLE_DEVICES=$i wandb agent some-group/cellab_<x>/$SWEEP_ID > <logs>/agent_$i.log 2>&1 &
    done
    wait
  first: |
    CONFIG_NAME="<arguments>"
    cd "${PROJECT_ROOT:-<root>}" && export PYTHONPATH="$PWD"
    [[ -f experiments/<x>/conf/$CONFIG_NAME.yaml ]] || { echo "no configuration $CONFIG_NAME" >&2; exit 1; }
    torchrun --nproc_per_node=4 --rdzv-endpoint=127.0.0.1:29500 --local-addr=127.0.0.1 \
      experiments/<x>/scripts/<script>.py --config-name "$CONFIG_NAME" "${@:2}"
  traps: |
    # cell_net.py --config-name cell_net_gh_gone was before
    PYTHONPATH="$PWD" python experiments/<x>/scripts/<script>.py \
      --config-name \
      cell_net_gh_007 # not --config-name cell_net_gh_lost
    echo "to run again: cell_net.py --config-name cell_net_gh_other" > /dev/shm/hint
  array: |
    run=(
      experiments/<x>/scripts/<script>.py
      <arguments>
      data.num_workers=$((SLURM_CPUS_PER_TASK - 2))
    )
    PYTHONPATH="$PWD" python "${run[@]}"
  arms: |
    export CELLAB_CONFIG=cgt_expr_011 PYTHONPATH="$PWD"
    case "${W5_STAGE:?set it by --export=ALL,W5_STAGE=depth}" in depth) ARMS=(ref deep) ;; *) exit 1 ;; esac
    for seed in 0 1; do bash experiments/<x>/scripts/expr_arm.sh "${ARMS[SLURM_ARRAY_TASK_ID]}" "$seed" & done
    wait
  stages: |
    S=experiments/<x>/scripts
    cd "<root>" && export PYTHONPATH="<root>"
    python $S/warm_cache.py --config-name tok_001 '+warm.seeds=[0,1]' || { echo "no cache" >&2; exit 2; }
    python $S/cgt.py --config-name smoke_tok_000 seed=0 || exit 3
    python $S/cgt.py --config-name smoke_ctl_000 seed=0 || exit 4
    python $S/smoke_report.py --tok $S/../results/smoke/tok_seed0.json
    exit $?
  archive: |
    tar -C /db/experiments/<x> -cf - raw | zstd -T16 -q -f -o /bulk/raw.tar.zst && sha256sum /bulk/raw.tar.zst
  rsync: |
    rsync -a --no-g /taiga/group/cellab/builds/001/ /scratch/abcd/ada/cellab/data/001/ 2>&1 | tail -20
default: # what all configurations of an experiment share: there is no `runtime`, and nothing says where Hydra writes
  {seed: 0, data: {batch_size: 32, num_workers: 0}, trainer: {max_epochs: 30}, wandb: {project: cellab, tags: []},
    model: {lr: 0.001, arm: none, shard: 0, penalty: 0.0, width: 64}}
experiments:
  002-dmi-tmi: # agents of W&B
    scripts: {elastic_net: needs wandb, cpu_benchmark: --size}
    sweeps: {elastic-net_sweep_1e03: elastic_net, elastic-net_sweep_1e04: elastic_net}
    files: {results/elastic_net/scores.csv: "alpha,mse\n0.1,0.4\n", queries/dmi-tmi_1e03.cql: "MATCH (g) RETURN g\n"}
    launchers:
      gh_ml_dataset_sweep-elastic_net_1e03: {ask: agents, body: agents, site: scratch, why: its program has no Hydra,
        right: &agents {it names no configuration: its agents get their values from W&B}}
      gh_ml_dataset_sweep-elastic_net_1e04: {ask: agents, body: agents, why: its program has no Hydra, right: *agents}
      cpu_benchmark: {ask: --nodes=1 --ntasks-per-node=128 --partition=cpu --account=lab-delta-cpu, site: projects,
        why: no Hydra, right: {it names no configuration: argparse, its account is not that of the GPUs: it has one}}
  003-fitness: # dots in names, no IDs, `optuna` in the name of what is no sweep
    scripts: {graph_net: hydra graph_net, point_net: hydra}
    conf: [graph_net, point_net-igb_1, point_net-igb_2, point_net-igb_3]
    sweeps: {graph_net-sweep_1e5: graph_net}
    right: {"conf/point_net-igb_[123].yaml": {no launcher names it: "its end is a variable, which people edit"},
      conf/graph_net.yaml: {no launcher names it: its script does}}
    launchers:
      igb_optuna_graph_net-ddp_all_d4e5: {ask: mmli4 mail, body: srun, site: igb, run: igb_mmli-srun_any of graph_net,
        why: "no ID, srun named ddp, no name of a configuration", right: {it names no configuration: its script does}}
      igb_point_net-sweep_2.5e4_singles: {ask: -p mmli --mem=100g --gres=gpu:1 mail, site: igb, why: no ID,
        run: igb_mmli_any of point_net, config: point_net-igb_3, arguments: --config-name point_net-igb_$NUM,
        swap: ["\ncd", "\nNUM=3\ncd"]}
      delta_wandb_graph_net-sweep_1e5: {ask: a40 lab --constraint="scratch", body: agents, site: delta, why: no ID,
        run: delta-pack_wandb of graph_net, config: graph_net-sweep_1e5,
        right: {<<: *agents, directives in comments: they are off, a comment after an option: Slurm takes it},
        swap: ["=243g\n", "=243g  # 256g does not start\n### GPU options ###\n# #SBATCH --output=/dev/null\n"]}
      gh_point_net-sweep_1.0e3: {ask: gpu, script: point_net, config: point_net-igb_1, why: bash cannot read it,
        swap: ["igb_1\n", "igb_1 \"\n"], wrong: {bash syntax error: a quote is open}}
  005-pairs: # a script that changes sys.path before an import
    scripts: {pair_net: hydra pair_net}
    conf: [pair_net, pair_net_linear_flipped, pair_net_linear_uniform]
    files: {scripts/__init__.py: "", scripts/scales.py: "SCALE = 10\n", queries/001_small_build.cql: "MATCH (g)\n"}
    reads: [queries/001_small_build.cql]
    wrong: {conf/pair_net_linear_uniform.yaml: {configuration that nothing runs: only a comment has its name}}
    right: {conf/pair_net.yaml: {no launcher names it: its script does}, slurm/output: {it is missing: no log is here},
      scripts/pair_net.py: {"it imports scripts.scales, which is not beside it": it changes sys.path first}}
    launchers:
      igb_optuna_pair_net-ddp: {ask: cabbi4, body: srun, site: igb, run: igb_cabbi-srun_any of pair_net,
        config: pair_net_linear_flipped, why: no ID and no machine in its names, logs: /home/a-m/ada/scratch/005,
        swap: [module purge, "# pair_net_linear_uniform [x]\nmodule purge"]}
  006-growth: # modes before labels, hyphens, a script of another name
    scripts: {cell_net: hydra, pair_net: hydra, cell-size: hydra, flux-growth: --n-genes}
    conf: [cell_net_gh_001, cell_net_gh_002, cell_net_gh_007, cell_net_gh_008, cell_net_gh_010, cell_net_cabbi_003,
      cell_net_cabbi_005, cell_net_delta_006, cell_net_mmli_009, pair_net_delta_027, cell-size_gh_000]
    wrong: {conf/cell_net_mmli_009.yaml: {configuration that nothing runs: no file has its name}}
    launchers:
      gh_cell_net-ddp_001: {ask: four mail, body: ddp, site: gh, run: gh-ddp_001 of cell_net}
      gh_cell_net-ddp_002: {ask: four, body: ddp, run: gh-ddp_002 of cell_net, swap: ["\n", "\r\n"],
        wrong: {DOS line breaks: every line ends in one}}
      igb_cabbi_cell_net-ddp_003: {ask: cabbi4 mail, body: ddp, site: igb, run: igb_cabbi-ddp_003 of cell_net}
      igb_cabbi_cell_net-ddp_015: &lost {ask: cabbi4, body: ddp, site: igb, script: cell_net, why: no configuration,
        config: cell_net_cabbi_015, wrong: {configuration missing: conf/cell_net_cabbi_015.yaml}}
      igb_cell_net-ddp_cabbi_005: {ask: -p cabbi --mem=600g --ntasks=6 --gres=gpu:6, body: srun, site: igb,
        run: igb_cabbi-srun_005 of cell_net, why: "its label is after its mode, and srun named ddp"}
      delta_cell_former-ddp_006: {ask: a40 --account=old-delta-gpu, body: srun, site: delta, why: another script,
        run: delta-srun_006 of cell_net, wrong: {dead account: old-delta-gpu},
        right: {there is no script cell_former.py: it runs cell_net.py}}
      delta_pair_net-ddp_027: {ask: a40 lab, body: srun, site: delta, run: delta-srun_027 of pair_net,
        why: srun named ddp, right: {no torchrun: srun starts its processes}}
      gh_flux-growth: {ask: cpus, arguments: --n-genes all, script: flux-growth, why: no Hydra, right: &argparse {
        it names no configuration: argparse}}
      gh_cell-size_000: {ask: gpu, script: cell-size, run: gh_000 of cell_size, config: cell-size_gh_000, why: a hyphen}
      gh_cell_net_007: {ask: gpu, run: gh_007 of cell_net, body: traps, right: {/dev/shm: every Linux has it,
        "it names a backslash, gone, lost, other": "a line goes on; comments and output"}}
      gh_cell_net_008: {ask: gpu, run: gh_008 of cell_net, body: array, right: {a variable has no value: Slurm sets it}}
      gh_cell_net_010: {ask: gpu, run: gh_010 of cell_net, body: array, swap: ["$((SLURM_CPUS_PER_TASK - 2))", "6"],
        right: {it has a run=( ... ): "its own: with --check it trains, so nobody may start it to look at it"}}
  010-inference: # shards, a pipeline, a configuration of another experiment
    scripts: {cell_net: hydra, cell_net_eval: hydra, inference_4: hydra, merge_shards: --merge-only}
    conf: [inference_4_m00, cell_net_cabbi_000, cell_net_cabbi_000_eval_m00 < cell_net_cabbi_000]
    files: {results/picked.csv: "gene,score\nG1,0.7\n", scripts/run_pipeline.sh: "#!/bin/bash\nset -e\n\
      S=experiments/010-inference/scripts\njob=$(sbatch --parsable $S/gh_inference_4_m00_shard0.slurm)\n\
      job=$(sbatch --parsable --dependency=afterok:$job $S/gh_merge_shards.slurm)\n\
      sbatch --dependency=afterok:$job $S/gh_cell_net_cabbi_000_eval_m00.slurm\n"}
    reads: [results/picked.csv]
    launchers:
      gh_inference_4_m00_shard0: &shard {ask: gpu, script: inference_4, why: two launchers of one configuration,
        arguments: --config-name inference_4_m00 model.shard=0, right: {two have one configuration: each is a shard}}
      gh_inference_4_m00_shard1: {<<: *shard, arguments: --config-name inference_4_m00 model.shard=1}
      gh_cell_net_cabbi_000_eval_m00: {ask: gpu, run: gh_000_eval_m00 of cell_net_eval, why: its model's label,
        config: cell_net_cabbi_000_eval_m00}
      igb_cabbi_cell_net-ddp_000: {ask: cabbi4 mail, body: ddp, site: igb, run: igb_cabbi-ddp_000 of cell_net}
      igb_cabbi_cell_net-ddp_004:
        {<<: *lost, config: cell_net_cabbi_004, wrong: {configuration missing: conf/cell_net_cabbi_004.yaml}}
      gh_merge_shards: {ask: cpus, script: merge_shards, arguments: --merge-only all, why: no Hydra, right: *argparse}
      gh_histogram: {ask: cpus, why: its script is missing, script: histogram, wrong: {script missing: histogram.py},
        right: {it names no configuration: what is wrong is its script}}
      gh_borrowed: {ask: gpu, script: cell_net, why: a configuration of another experiment,
        arguments: --config-path=../../006-growth/conf --config-name cell_net_gh_001,
        right: {there is no conf/cell_net_gh_001.yaml: --config-path leads to that of 006-growth}}
  019-multimodal: # 288 configurations by printf, arms by variables
    scripts: {train_multitask: hydra, optuna_joint: needs optuna}
    conf: [cgt_expr_011, gh_metabolism_000, gh_optuna_000]
    files: {scripts/expr_arm.sh: "#!/bin/bash\npython experiments/019-multimodal/scripts/train_multitask.py \
      --config-name \"${CELLAB_CONFIG:?}\" model.arm=\"$1\" seed=\"$2\"\n"}
    right: {conf/gh_grid_*.yaml: {no launcher names it: gh_grid_array does by printf},
      conf/cgt_expr_011.yaml: {no launcher gives it to a script: gh_expr_wave5 exports it},
      conf/gh_optuna_000.yaml: {no launcher gives it to a script: gh_optuna_expr exports it}}
    launchers:
      gh_grid_array: {ask: gpu --array=0-287%4, script: train_multitask, why: one launcher of 288 configurations,
        arguments: --config-name "$CONFIG_NAME" data.num_workers=$((SLURM_CPUS_PER_TASK - 2)),
        swap: ["\ncd", "\nCONFIG_NAME=$(printf \"gh_grid_%03d\" \"$SLURM_ARRAY_TASK_ID\")\ncd"],
        right: {its configuration is a variable: printf makes it of the array's task}}
      gh_expr_wave5: {ask: gpu --array=0-1%2, body: arms, why: "arms and seeds by variables, two runs on one GPU",
        logs: experiments/019-multimodal/slurm/logs, wrong: {log folder missing: slurm/logs},
        right: {it names no configuration: it exports CELLAB_CONFIG for expr_arm.sh}}
      gh_metabolism_000: {ask: gpu, run: gh_000 of train_multitask, config: gh_metabolism_000, why: another script,
        arguments: --config-name="$CONFIG", swap: ["\ncd", "\nCONFIG=\"${METAB_CONFIG:-gh_metabolism_000}\"\ncd"],
        right: {its configuration is a variable: with a default, there is no metabolism.py: it is train_multitask.py}}
      gh_optuna_expr: {ask: -p main --mem=120g --cpu-per-task=16 --gres=gpu:4 --time=6:00:00, script: optuna_joint,
        swap: ["\ncd", "\nexport BASE_CONFIG=gh_optuna_000\ncd"], why: an engine of its own with a space in its script,
        wrong: {unknown sbatch option: --cpu-per-task}, right: {it names no configuration: it exports BASE_CONFIG}}
  025-plate-growth: # one launcher a machine, twelve configurations, a campaign
    scripts: {cgt: hydra, query: needs neo4j}
    files: {results/split.json: "{\"test\": [1]}\n", queries/001_plates.cql: "MATCH (p) RETURN p\n"}
    reads: [results/split.json, queries/001_plates.cql]
    right: {conf/cgt_s0_*.yaml: {no launcher names it: "launchers take it as first argument, or it is another's base"}}
    launchers:
      delta_cgt: &cgt {ask: a40 lab, body: first, script: cgt, why: many configurations by argument,
        right: {its configuration is a variable: its first argument}, arguments: "${1:?usage: sbatch LAUNCHER CONFIG}"}
      gh_cgt: {<<: *cgt, ask: four, arguments: "${1:-cgt_s0_kl_000}"}
      igb_mmli_cgt: {<<: *cgt, ask: mmli4, site: igb}
      delta_copy_build: {ask: --partition=cpu --account=lab-delta-cpu --mem=16g, body: rsync, why: "rsync, no Python",
        right: &none {it names no configuration: there is no Hydra in it}}
      gh_query_build_001: {ask: cpus --no-requeue, script: query, why: a query script of its own, right: *none,
        wrong: {password: NEO4J_PASSWORD}, swap: ["\ncd", "\nexport NEO4J_PASSWORD=not-a-secret-9\nls /db || exit\ncd"]}
  030-media-growth: # several stages in one job; splits, pools and tables in git
    scripts: {cgt: hydra, warm_cache: hydra, closure: hydra, smoke_report: --tok}
    conf: [tok_001, smoke_tok_000 < tok_001, smoke_ctl_000 < tok_lost, closure_gh_000]
    files: {results/split.json: "{\"test\": [0]}\n", results/closure_by_screen.csv: "screen,closure\nA,0.9\n",
      results/smoke/tok_seed0.json: "{\"loss\": 0.1}\n", queries/001_media.cql: "MATCH (m) RETURN m.name\n"}
    reads: [results/split.json, results/pool.npy, queries/001_media.cql]
    wrong: {conf/smoke_ctl_000.yaml: {base of a configuration missing: tok_lost}}
    right: {results/*: {results are in git: "splits, pools and tables are what people commit"}}
    launchers:
      gh_smoke_token: {ask: gpu mail, body: stages, why: four stages in one job,
        right: {it names three configurations: one for each stage of Hydra}}
      gh_closure_000: {ask: gpu, run: gh_000 of closure, logs: experiments/025-plate-growth/slurm/output,
        wrong: {logs into another experiment: 025-plate-growth}}
  033-drug-screen: # no Hydra at all
    scripts: {flatten_cells: --workers, query: needs neo4j}
    files: {results/pool_totals.csv: "pool,cells\nA,120\n", queries/001_pooled.cql: "MATCH (c) RETURN c.name\n"}
    right: {slurm/output: {it is missing: no log is here}}
    launchers:
      gh_flatten_cells: {ask: cpus, site: gh, script: flatten_cells, logs: &logs /scratch/projects/033, why: no Hydra,
        right: *argparse}
      gh_archive_001: {ask: cpus, body: archive, logs: *logs, why: "tar, no Python", right: *none}
      gh_query_smoke: {ask: cpus, script: query, logs: *logs, why: a query script of its own, right: {<<: *none,
        a password: the environment has it}, swap: ["\ncd", "\nexport NEO4J_PASSWORD=$SECRET\ncd"]}
  W019-echo: # a wet lab
    files: {PROVENANCE.md: "# Plates, 2026.09.14\n", data/plate_01.csv: "A1,25\n", picklists/plate_01.csv: "A1,B1,25\n",
      SHA256SUMS.txt: "93da2f640a1145b367a0a75154f48eb1d0c7c032cd9ba8d9e9a9772662c90ff5  data/plate_01.csv\n"}
    right: {.: {"no launcher, no scripts, no conf": a wet lab's experiment is files of plates}}
  tcdb-002-build-speed:
    files: {scripts/bench.py: "print(1)\n", scripts/submit_bench.sh: "#!/bin/bash\nsbatch --mem=1g --wrap 'sleep 1'\n"}
    right: {.: {its number is not at the start: the lab has such names}}
  database:
    files: {README.md: "# The graph database\n", queries/schema.cql: "MATCH (n) RETURN n\n"}
    right: {.: {neither scripts nor conf: "queries of no one experiment; one line that says it is none is right, too"}}

root: # other files of the repository; git ignores some
  .gitignore: "__pycache__/\n*.pyc\n.DS_Store\n.env\n.ruff_cache/\n/data\nnotes/assets/images\nexperiments/*/slurm/\n\
    slurm/output\nslurm/error\nagent_log/\n*.out\n*.log\nwandb/\noutputs/\nmultirun/\n*.ckpt\n*.sif\n"
  pyproject.toml: "[project]\nname = \"cellab\"\nversion = \"0.1.0\"\n\n[tool.ruff]\nline-length = 88\n\n\
    [tool.ruff.lint]\nselect = [\"D\", \"E\", \"F\", \"I\", \"W\"]\n"
  cellab/__init__.py: ""
  cellab/timestamp.py: "from datetime import datetime\n\n\ndef timestamp() -> str:\n\
    \    return datetime.now().strftime(\"%Y-%m-%d-%H-%M-%S\")\n"
  notes/root.md: "---\nid: r0\ntitle: Root\n---\n\n- [[experiments.025-plate-growth]]\n- [[plan.round2.2026.10.01]]\n"
  notes/plan.round2.2026.10.01.md: "---\nid: p1\ntitle: '01'\nupdated: 1790000000000\ncreated: 1789000000000\n\
    ---\n\n## 2026.10.02 - Round two\n\nSix arms, four seeds: [[experiments.025-plate-growth]]\n"
  notes/experiments.025-plate-growth.md: "---\nid: e2\ntitle: 025 Growth\ndesc: ''\nupdated: 1790000000000\n---\n\n\
    ## 2026.09.30 - Closure\n\n![](./assets/images/025-plate-growth/closure_2026-09-30-11-12-13.png)\n\
    ![](./assets/images/025-plate-growth/arms.png)\n\nNext: [[2026.10.02 - Round two|dendron://cellab/\
    plan.round2.2026.10.01#20261002---round-two]] by [[experiments.025-plate-growth.scripts.delta_cgt]]\n"
""")

HYDRA = """\
# experiments/<x>/scripts/<script>
# [[experiments.<x>.scripts.<script>]]
import os
import os.path as osp
import sys
import zlib

import hydra
import numpy as np
from dotenv import load_dotenv
from omegaconf import DictConfig

from cellab.timestamp import timestamp

load_dotenv()


@hydra.main(version_base=None, config_path="../conf", config_name="<default>")
def main(cfg: DictConfig) -> None:
    for name in <reads>:
        with open(osp.join(os.environ["EXPERIMENT_ROOT"], "<x>", name), "rb") as file:
            print(name, zlib.crc32(file.read()))
    noise = np.random.default_rng(cfg.seed).normal(size=cfg.data.batch_size)
    print(f"{timestamp()} <script> seed={cfg.seed} loss={np.square(noise).mean() * cfg.model.lr:.6f}")


if __name__ == "__main__":
    main()
"""
PLAIN = """\
# experiments/<x>/scripts/<script>
import argparse

import <module>

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("<option>")
    print(parser.parse_args(), <module>.__version__)
"""
ARMS = {"kl-1": "cgt_s0_kl_003 model.penalty=1", "kl-10": "cgt_s0_kl_003 model.penalty=10",
        "hops-1": "cgt_s0_mask_007 +model.hops=1", "hops-2": "cgt_s0_mask_007 +model.hops=2",
        "deep": "cgt_s0_wide_010 +model.depth=9", "wide": "cgt_s0_wide_011 model.width=128"}  # fmt: skip
FIGURES = ("025-plate-growth/closure_2026-09-30-11-12-13.png", "025-plate-growth/arms.png")  # of a note
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAQAAAAEAQAAAACBiqPTAAAADklEQVR42mNYwBDAAMQACCgB4UFM0zYAAAAASUVORK5CYII="
MACHINE_PATH = re.compile(r"(?<![\w$}~.])/(?:home|scratch|projects|work|taiga|db|bulk)\b[\w%./+-]*")
RUN = re.compile(r"([a-z_]+?)(?:-([a-z]+))?_([0-9]{3}\w*|wandb|any) of (\w+)")
LONG = {"-p ": "partition", "-N ": "nodes"}

FILES: dict[str, str | bytes] = {}  # by path in the repository
FACTS: dict[str, dict[str, Any]] = {}  # by experiment


def fill(text: str, **words: object) -> str:
    for name, word in words.items():
        text = text.replace(f"<{name}>", str(word))
    return text


def add_configuration(x: str, name: str, base: str = "default", **values: object) -> None:
    """A configuration; without a base, one that begins anew."""
    values = {"defaults": [base, "_self_"], "wandb": {"tags": [name]}, **values} if base else values
    FILES[f"experiments/{x}/conf/{name}.yaml"] = yaml.safe_dump(values, sort_keys=False)


def add_launcher(x: str, name: str, given: dict[str, Any]) -> None:
    """A launcher, and what is true of it."""
    ask = " ".join(DATA["asks"].get(word, word) for word in given["ask"].split())
    asked = re.findall(r"(-[pN] |--[a-z-]+=?)(\S*)", ask)
    root = DATA["sites"][given.get("site", "here")]
    logs = given.get("logs") or f"{root}/experiments/{x}/slurm/output".removeprefix("$SLURM_SUBMIT_DIR/")
    log = f"{logs}/%x_%A_%a.out" if "--array" in ask else f"{logs}/%x_%j.out"
    run = RUN.fullmatch(given.get("run", ""))
    machine, mode, number, program = run.groups() if run else ("", "", "any", name)
    by_names = "" if number in ("any", "wandb") else f"{program}_{machine.split('_')[-1]}_{number}"
    config = given.get("config", by_names)
    words = {"x": x, "root": root, "logs": logs, "script": given.get("script", program)}
    words["arguments"] = given.get("arguments") or (f"--config-name {config}" if config else "")
    options = [*map("".join, asked), f"--job-name={x[:3]}-{name}", f"--output={log}", f"--error={log}"]
    head = "#!/bin/bash\n" + "".join(f"#SBATCH {option}\n" for option in options)
    text = fill(f"{head}\n{DATA['bodies'][given.get('body', 'one')]}", **words)
    text = text.replace(*given.get("swap", ("<>", "")))
    FILES[f"experiments/{x}/scripts/{name}.slurm"] = text
    if logs == f"experiments/{x}/slurm/output":
        FILES[f"{logs}/{x[:3]}-{name}_7.out"] = "an old log\n"

    fact: dict[str, Any] = {"expressible": "no", "why": given.get("why", ""), "config": config}
    if run:
        fact |= {"script": program, "machine": machine, "mode": mode or "one", "id": number}
        fact["config"] = config or FACTS[x]["scripts"][program]["default"]
        fact["expressible"] = "renamed" if fact["why"] else "as it is"
    fact["options"] = {LONG.get(flag) or flag.strip("-="): value.strip('"') or True for flag, value in asked}
    FACTS[x]["launchers"][name] = fact
    code = [line for line in text.splitlines() if line.startswith("#SBATCH") or not line.lstrip().startswith("#")]
    path = MACHINE_PATH.search("\n".join(code))
    wrong = given.get("wrong", {}) | ({"path of one machine": path[0]} if path else {})
    for what, found in (("findings", wrong), ("right", given.get("right"))):
        if found:
            FACTS[x][what][f"scripts/{name}.slurm"] = found


def add_experiment(x: str, given: dict[str, Any]) -> None:
    FACTS[x] = {"launchers": {}, "findings": given.get("wrong", {}), "right": given.get("right", {}), "scripts": {}}
    for name, text in given.get("files", {}).items():
        FILES[f"experiments/{x}/{name}"] = text
    for name, says in given.get("scripts", {}).items():
        kind, _, rest = says.partition(" ")
        fact = {"kind": "argparse" if kind.startswith("--") else kind, "module": rest if kind == "needs" else "numpy"}
        if kind == "hydra":
            fact |= {"default": rest or "default", "reads": given.get("reads", [])}
        text = fill(HYDRA if kind == "hydra" else PLAIN, **fact, x=x, script=name, option=kind)
        FILES[f"experiments/{x}/scripts/{name}.py"] = text
        FACTS[x]["scripts"][name] = fact
    if "hydra" in str(given.get("scripts")):
        add_configuration(x, "default", "", **DATA["default"])
    for name, _, base in (entry.partition(" < ") for entry in given.get("conf", [])):
        add_configuration(x, name, base or "default")
    for name, program in given.get("sweeps", {}).items():
        path, rates = f"experiments/{x}/scripts/{program}.py", {"values": [0.01, 0.001]}
        add_configuration(x, name, "", program=path, method="grid", parameters={"model.lr": rates})
        FACTS[x]["right"][f"conf/{name}.yaml"] = {"no launcher names it": "a sweep of W&B: agents get its ID"}
    for name, launcher in given.get("launchers", {}).items():
        add_launcher(x, name, launcher)


def add_specials() -> None:
    """What no line above declares."""
    place = "experiments/005-pairs/scripts/pair_net.py"
    added = "sys.path.insert(0, osp.dirname(osp.dirname(osp.abspath(__file__))))\nfrom scripts.scales import SCALE\n\n"
    FILES[place] = str(FILES[place]).replace("from cellab", added + "from cellab").replace("cfg.model.lr", "SCALE")
    for number in range(288):
        add_configuration("019-multimodal", f"gh_grid_{number:03}", seed=number % 4, model={"lr": 0.001 + number // 4})
    names = [f"cgt_s0_{'kl' if n < 5 else 'mask' if n < 9 else 'wide'}_{n:03}" for n in range(12)]
    for number, name in enumerate(names):  # three chains of four
        add_configuration("025-plate-growth", name, names[number - 1] if number % 4 else "default", seed=number)
    jobs = {f"025-r2-{arm}-s{seed}": f"{words} seed={seed}" for arm, words in ARMS.items() for seed in range(4)}
    launcher = "experiments/025-plate-growth/scripts/delta_cgt.slurm"
    lines = "".join(f"sbatch --time=24:00:00 -J {name} {launcher} {words}\n" for name, words in jobs.items())
    text = f"#!/bin/bash\nset -e # made by a script: arms and seeds\n{lines}"
    FILES["experiments/025-plate-growth/scripts/delta_submit_round2.sh"] = text
    FACTS["025-plate-growth"]["campaigns"] = {"scripts/delta_submit_round2.sh": {"launcher": "delta_cgt", "jobs": jobs}}
    header = "{'descr': '|u1', 'fortran_order': False, 'shape': (4,), }".ljust(117) + "\n"
    FILES["experiments/030-media-growth/results/pool.npy"] = b"\x93NUMPY\1\0\x76\0" + header.encode() + b"\1\2\3\4"
    for figure in FIGURES:
        FILES[f"notes/assets/images/{figure}"] = base64.b64decode(PNG)


def build(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        sys.exit(f"{folder} is not empty")
    for name, content in FILES.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        file.chmod(0o755 if name.endswith(".sh") else 0o644)
    (folder / "data").mkdir()
    places = {"DATA_ROOT": "data", "ASSET_IMAGES_DIR": "notes/assets/images", "EXPERIMENT_ROOT": "experiments"}
    (folder / ".env").write_text("".join(f"{name}={folder / place}\n" for name, place in places.items()))
    # A person's settings of git have no say, so that each build is the same commit.
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    env |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    for who in ("GIT_AUTHOR", "GIT_COMMITTER"):
        env |= {f"{who}_NAME": "Ada", f"{who}_EMAIL": "ada@example.org", f"{who}_DATE": "2026-10-03T12:00:00Z"}
    for words in ("init --quiet --initial-branch=main --template=", "add --all", "commit --quiet --message=Replica"):
        subprocess.run(["git", *words.split()], cwd=folder, env=env, check=True)


def main() -> None:
    if len(sys.argv) != 2 or sys.argv[1] in ("-h", "--help"):
        sys.exit(__doc__)
    FILES.update(DATA["root"])
    for x, given in DATA["experiments"].items():
        add_experiment(x, given)
    add_specials()
    if sys.argv[1] == "--facts":
        print(json.dumps({"lab": DATA["lab"], "experiments": FACTS}, indent=1))
    else:
        build(Path(sys.argv[1]).resolve())


if __name__ == "__main__":
    main()
