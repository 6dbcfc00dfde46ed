import warnings

# mmcv-lite has no compiled operators and says so at every start; no model here needs one (mmcv #3325).
warnings.filterwarnings('ignore', message='Fail to import ``MultiScaleDeformableAttention``')
