"""The checks of `experiments check`. Each is a function with a name, in the order of the documentation."""

from experiments.checks import configurations, experiment, launchers
from experiments.checks.context import Check

CHECKS: dict[str, Check] = {
    check.name: check
    for check in (
        experiment.version,
        experiment.renamed_folder,
        experiment.missing_file,
        experiment.edited_library,
        experiment.conflict,
        launchers.bash_syntax,
        launchers.dos_line_breaks,
        launchers.missing_script,
        launchers.sbatch_option,
        launchers.torchrun_signal,
        launchers.ignored_directive,
        launchers.unknown_partition,
        launchers.dead_account,
        launchers.missing_log_folder,
        launchers.foreign_log_folder,
        launchers.machine_path,
        launchers.password,
        launchers.shared_number,
        configurations.missing_config,
        configurations.missing_base,
        configurations.unused_config,
        configurations.sweep_program,
        configurations.compose,
    )
}
