"""How well an index answers judged queries, which weight of the vector answers them best, and which of two settings.
Imports this package alone."""

from .answers import AnswerCache as AnswerCache
from .answers import Figures as Figures
from .comparing import Compared as Compared
from .comparing import Comparison as Comparison
from .comparing import compare as compare
from .documents import evaluation_document as evaluation_document
from .fitting import ENOUGH_FITTED as ENOUGH_FITTED
from .fitting import Fit as Fit
from .judged import judgements_of as judgements_of
from .judgements import qrels_lines as qrels_lines
from .judgements import query_lines as query_lines
from .judgements import read_qrels as read_qrels
from .judgements import read_queries as read_queries
from .measuring import ENOUGH_QUERIES as ENOUGH_QUERIES
from .measuring import Evaluation as Evaluation
from .measuring import best_weight as best_weight
from .measuring import evaluate as evaluate
from .measuring import keep as keep
