"""What is served: the artefact, its checks, and the session that scores with it.

from service.model import Scorer

scorer = Scorer.open("exported/autoencoder.onnx")
scores = scorer.score(events)  # an array (n, n_features), or a frame with a column for each feature
"""

from service.model.artefact import Artefact as Artefact
from service.model.artefact import ArtefactError as ArtefactError
from service.model.artefact import Metadata as Metadata
from service.model.artefact import WorkingPoint as WorkingPoint
from service.model.artefact import load_artefact as load_artefact
from service.model.explanation import Explainer as Explainer
from service.model.explanation import Explanation as Explanation
from service.model.explanation import ExplanationError as ExplanationError
from service.model.scorer import Scorer as Scorer
