"""The Python API: the verbs of the command line as functions, and the types that they take and give."""

from gatenorm.api.evaluating import evaluate as evaluate
from gatenorm.api.exporting import export as export
from gatenorm.api.exporting import verify as verify
from gatenorm.api.opening import load as load
from gatenorm.api.opening import open_model as open_model
from gatenorm.api.opening import session as session
from gatenorm.api.pruning import plan as plan
from gatenorm.api.pruning import prune as prune
from gatenorm.api.pruning import prune_module as prune_module
from gatenorm.api.recovering import recover as recover
from gatenorm.api.recovering import recovery_study as recovery_study
from gatenorm.api.scoring import compare as compare
from gatenorm.api.scoring import cross_check as cross_check
from gatenorm.api.scoring import curve as curve
from gatenorm.api.scoring import score as score
from gatenorm.criteria.tokens.sources import Calibration as Calibration
from gatenorm.errors import GatenormError as GatenormError
from gatenorm.models.model import Model as Model
from gatenorm.records import Evidence as Evidence
from gatenorm.records import Plan as Plan
from gatenorm.records import Scores as Scores
from gatenorm.surgery.registration import register as register
