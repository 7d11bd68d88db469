"""The Python API: the verbs of the command line as functions, and the types that they take and give."""

from gatenorm.api.choosing import rank_sublayers as rank_sublayers
from gatenorm.api.evaluating import evaluate as evaluate
from gatenorm.api.exporting import convert as convert, export as export, verify as verify
from gatenorm.api.fitting import fit as fit, unfitted as unfitted
from gatenorm.api.inspecting import forms as forms, inspect as inspect
from gatenorm.api.opening import load as load, open_model as open_model, session as session
from gatenorm.api.pruned import Pruned as Pruned
from gatenorm.api.pruning import forecast as forecast, plan as plan, prune as prune, prune_module as prune_module
from gatenorm.api.recovering import recover as recover, recovery_study as recovery_study
from gatenorm.api.scoring import compare as compare, cross_check as cross_check, curve as curve, score as score
from gatenorm.api.timing import bench as bench, profile as profile
from gatenorm.calibration.samples import Calibration as Calibration, Sampling as Sampling
from gatenorm.errors import GatenormError as GatenormError
from gatenorm.fitting.fit import FittedPlan as FittedPlan
from gatenorm.models.model import Model as Model
from gatenorm.records import Evidence as Evidence, Plan as Plan, Scores as Scores
from gatenorm.surgery.registration import register as register
