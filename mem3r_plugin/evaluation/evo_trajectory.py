"""Trajectory errors by evo, whose numbers papers report (https://github.com/MichaelGrupp/evo).

evo is under the GPL-3, so it is no requirement of this package: it comes with the extra `evaluate`, and is
imported only when a trajectory is measured.
"""

from __future__ import annotations

import numpy as np

from mem3r_plugin.errors import ConfigError
from mem3r_plugin.evaluation.trajectory import TrajectoryErrors
from mem3r_plugin.geometry.alignment import umeyama
from mem3r_plugin.geometry.camera import FloatArray


def evo_trajectory_errors(estimated: FloatArray, true: FloatArray) -> TrajectoryErrors:
    """What `trajectory_errors` measures, measured by evo: ATE, and RPE from frame to frame.

    Where a path is a point or a straight line, which evo refuses to align, one of the equally good
    alignments is taken.

    Args:
        estimated: `camera_to_world` poses of the frames in order, shape (N, 4, 4), N >= 2.
        true: The true ones, shape (N, 4, 4).

    Raises:
        ConfigError: evo is not installed.
    """
    try:
        from evo.core.geometry import GeometryException
        from evo.core.metrics import APE, RPE, PoseRelation, StatisticsType, Unit
        from evo.core.trajectory import PosePath3D
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"evaluation needs the package {error.name}: pip install 'mem3r-plugin[evaluate]'"
        ) from error
    truth, path = PosePath3D(poses_se3=list(true)), PosePath3D(poses_se3=list(estimated))
    try:
        _, _, scale = path.align(truth, correct_scale=True)
    except GeometryException:
        similarity = umeyama(estimated[:, :3, 3], true[:, :3, 3])
        scale = similarity.scale
        path = PosePath3D(poses_se3=list(similarity.poses(np.asarray(estimated))))

    def rms(metric: APE | RPE) -> float:
        metric.process_data((truth, path))
        return float(metric.get_statistic(StatisticsType.rmse))

    def step(relation: PoseRelation) -> RPE:
        return RPE(relation, delta=1, delta_unit=Unit.frames)

    return TrajectoryErrors(
        ate_rmse=rms(APE(PoseRelation.translation_part)),
        rpe_translation=rms(step(PoseRelation.translation_part)),
        rpe_rotation=rms(step(PoseRelation.rotation_angle_deg)),
        path_length=float(truth.path_length),
        scale=float(scale),
        frames=len(true),
    )
